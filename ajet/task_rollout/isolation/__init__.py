"""Runs each episode in a process of its own; model calls go to the run's process."""
