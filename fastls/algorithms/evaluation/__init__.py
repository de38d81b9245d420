"""Support for the evaluation of a batch: checks of the model, and sums over processes."""
