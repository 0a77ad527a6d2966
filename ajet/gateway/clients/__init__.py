"""The client objects that a workflow gets from its tuner, one file per library."""
