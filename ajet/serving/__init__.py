"""Answers with the tuned model: `ajet serve` and `ajet chat`."""
