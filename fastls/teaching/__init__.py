"""Teaching in the notebooks: exercises that say what is wrong, their form without solutions, and a panel to try."""
