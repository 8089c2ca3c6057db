"""Trainings side by side: a table for the terminal, and a page with their curves."""
