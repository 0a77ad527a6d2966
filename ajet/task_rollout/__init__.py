"""Many episodes at once: threads, deadlines, groups."""
