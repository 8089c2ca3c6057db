"""What a model of closed questions has beside its head."""
