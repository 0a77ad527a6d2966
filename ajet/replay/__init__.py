"""`ajet replay`: merges, judges, credits and trains a recorded step of a run again."""
