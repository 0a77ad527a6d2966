"""Evaluation without training: `ajet eval`."""
