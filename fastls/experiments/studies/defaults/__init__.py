"""Notebook 08: what people train with, each at its one setting, beside the search that has no number to choose."""
