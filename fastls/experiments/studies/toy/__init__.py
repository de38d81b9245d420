"""Code of notebook 02_toy_quadratics alone."""
