"""An inference engine in this process: a stock transformers model, our own cache and scheduler."""
