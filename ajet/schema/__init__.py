"""Records that the layers pass to each other, without behaviour of their own."""
