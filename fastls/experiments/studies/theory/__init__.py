"""What notebook 01_theory needs of its own."""
