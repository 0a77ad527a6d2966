"""Serves a workflow's model requests: to token ids, to the engine, on record."""
