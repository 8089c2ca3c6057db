"""Composed retrieval: levels of a photo, words that change them, regions, and their similarity as one product."""
