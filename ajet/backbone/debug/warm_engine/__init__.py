"""An engine that stays up between debug runs, so that none of them loads a model."""
