"""From rows to frames, intervals, verdicts, tables and curves, in one style."""
