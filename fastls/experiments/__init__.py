"""Runs, sweeps, figures, tables and their reproduction: the only part that knows the paper."""
