"""Filters of tasks that were imported from logs or written by a model."""
