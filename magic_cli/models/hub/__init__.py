"""Image encoders in the folders of other libraries than transformers."""
