"""What `magic doctor` finds out about this machine and this environment: memory, and who owns the names."""
