"""Composed case retrieval: a photo and words in, proven cases out."""
