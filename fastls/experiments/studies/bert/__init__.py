"""What notebook 06_bert_timing needs of its own."""
