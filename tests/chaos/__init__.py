"""Runs that are killed, stopped, filled, truncated and flooded at random moments."""
