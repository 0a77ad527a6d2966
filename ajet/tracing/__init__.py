"""Tasks from the logs of agents in use: one file per kind of log, and what makes tasks of calls."""
