"""The optimizer of each method: the table in `methods`, and the optimizers from outside of `fastls.algorithms`."""
