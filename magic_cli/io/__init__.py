"""The machine: atomic files, JSON and its schemas, staging, locks, signals, progress, environment, run.json."""
