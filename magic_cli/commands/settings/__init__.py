"""Settings as users see them: listed, written as a file, presets, and which of them a run changed."""
