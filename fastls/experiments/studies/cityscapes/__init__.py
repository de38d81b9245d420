"""Code of notebook 05_cityscapes alone."""
