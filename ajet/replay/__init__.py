"""`ajet replay`: judge and train stored steps of a run again."""
