"""The local backbone: one machine, CPU or GPU, nothing to install beyond torch."""
