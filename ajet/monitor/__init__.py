"""Shows and stores a run: progress display, metrics, rollouts, summary."""
