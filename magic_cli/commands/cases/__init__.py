"""Cases for `magic index` and `magic search`: photos encoded by a trained model, and found by it."""
