"""What is told of a training: how long it takes, what it needs, where its scores are logged, what fits into memory."""
