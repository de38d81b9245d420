"""What notebook 02_toy_quadratics needs of its own."""
