"""An engine that keeps running between debug runs, so that they need not load the model."""
