"""What notebook 07_beyond_the_paper needs of its own."""
