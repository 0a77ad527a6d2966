"""Serves agents' model requests: renders them to token ids, calls the engine, records the ids."""
