"""verl on machines without a GPU; nothing of it is loaded on a GPU."""
