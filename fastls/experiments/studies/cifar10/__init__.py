"""What notebook 04_cifar10 needs of its own."""
