"""What decides a run, and how it becomes rows in the store."""
