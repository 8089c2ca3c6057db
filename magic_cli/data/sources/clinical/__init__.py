"""Collections of clinical photos whose cases are rows of a CSV table beside the photos."""
