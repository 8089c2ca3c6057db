"""What fine-tuning adds to an encoder beside its own weights."""
