"""One episode: the workflow, its reward, its samples."""
