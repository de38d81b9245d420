"""The configuration of a run, its training, and its rows in the store."""
