"""The training loop that the backbones share, and what a backbone must bring to it."""
