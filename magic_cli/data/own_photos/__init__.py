"""Photos of any folder, without a prepared dataset: `magic predict --images`."""
