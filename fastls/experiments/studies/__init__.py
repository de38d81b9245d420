"""What one notebook needs of its own: a folder a notebook."""
