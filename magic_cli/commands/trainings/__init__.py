"""Trainings that are there: listed, compared, and one of them shown."""
