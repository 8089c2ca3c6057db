"""Pure functions over numpy arrays and sets: no files, no torch."""
