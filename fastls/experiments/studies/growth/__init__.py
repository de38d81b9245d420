"""`fastls bench`: how the cost of a step grows with tasks, encoder, decoders and batch."""
