"""Starts a run: its folder, its log, its services, its Ray and its backbone."""
