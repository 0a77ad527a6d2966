"""The debug backbone: a workflow on a few tasks, in the main thread, with nothing trained."""
