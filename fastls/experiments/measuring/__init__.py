"""Seconds, memory and passes of a step."""
