"""magic: prepare, train, predict, score and package for the MEDIQA-MAGIC 2025 challenge."""

__version__ = "0.1.0"
