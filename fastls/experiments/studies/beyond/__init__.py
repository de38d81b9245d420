"""Code of notebook 07_beyond_the_paper alone."""
