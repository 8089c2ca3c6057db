"""What `magic predict` is made of beside the verb: its options, and photos of any folder."""
