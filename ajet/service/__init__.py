"""Processes that a run needs beside its own, and that never outlive it."""
