"""Features of frozen encoders and shrunk photos, computed once."""
