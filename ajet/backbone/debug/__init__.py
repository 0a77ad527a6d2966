"""The debug backbone runs a workflow on a few tasks in the main thread and trains nothing."""
