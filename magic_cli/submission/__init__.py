"""Submission files of the challenge: names, archives, reading, linting."""
