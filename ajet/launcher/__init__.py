"""Starts a run: its folder, its log, its backbone."""
