"""What notebook 05_cityscapes needs of its own."""
