"""What `magic prepare` shows: its page, and its lines on the terminal."""
