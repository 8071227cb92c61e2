"""Journals: what happened in a run, in a file that outlives it."""
