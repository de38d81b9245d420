"""Notebook 08: the usual optimizers, each at its default setting, beside AdamFBLS, which has no number to choose."""
