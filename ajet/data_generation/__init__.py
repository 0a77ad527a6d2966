"""Tasks that a model writes: about documents, and in the manner of examples."""
