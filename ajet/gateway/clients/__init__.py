"""The genuine client objects of libraries that a workflow gets from its tuner."""
