"""What several processes of a training do together, so that it is the training of one process."""
