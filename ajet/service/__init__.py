"""Other processes that a run needs: they are started with the run and never outlive it."""
