"""Code of notebook 04_cifar10 alone."""
