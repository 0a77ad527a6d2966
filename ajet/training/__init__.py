"""The training loop that backbones share. `protocols` says what a backbone must bring."""
