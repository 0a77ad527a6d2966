"""The subcommands of `ajet`, one file each. Heavy imports stay inside their functions."""
