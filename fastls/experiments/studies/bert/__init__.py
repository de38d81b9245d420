"""Code of notebook 06_bert_timing alone."""
