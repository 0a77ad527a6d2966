"""From a workflow's model requests to the engine, recorded on the way."""
