"""What the notebooks teach with: exercises that say what is wrong, their form without solutions, and a panel to try."""
