"""The local backbone trains on one machine, on a CPU or one GPU; it needs torch and no Ray."""
