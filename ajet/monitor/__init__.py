"""What a person sees of a run, and what its folder keeps: progress, metrics, rollouts, summary."""
