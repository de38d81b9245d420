"""The mathematics: directions, line searches, optimizers. Knows nothing of data sets or experiments."""
