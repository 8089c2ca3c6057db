"""The challenge's files: names, archives, reading, linting."""
