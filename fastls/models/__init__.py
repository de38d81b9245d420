"""Networks under one contract: an encoder, a decoder per task, a loss per task."""
