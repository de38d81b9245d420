"""Data sets as tensors, each with its source, its fingerprint and an embedded stand-in."""
