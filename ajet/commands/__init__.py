"""The subcommands of `ajet`. Heavy libraries are imported inside the functions only."""
