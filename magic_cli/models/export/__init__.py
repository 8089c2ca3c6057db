"""Trained models for other programs: their computation as an ONNX file, their weights as a folder for a model hub."""
