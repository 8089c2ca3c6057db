"""Scores and their uncertainty: pure functions over numpy arrays and sets; no files, no torch."""
