"""Pairs of photos and texts in shards: WebDataset tars and Parquet files, trained on without `magic prepare`."""
