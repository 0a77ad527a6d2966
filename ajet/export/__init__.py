"""Takes the tuned model out of a run: `ajet export`."""
