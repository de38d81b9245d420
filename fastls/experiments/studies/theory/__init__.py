"""Code of notebook 01_theory alone."""
