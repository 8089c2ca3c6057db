"""Raw datasets: one folder or module per source, all read into one prepared format."""
