"""Which optimizer a method is: the table `methods`, and the optimizers that are not of `fastls.algorithms`."""
