"""The command line: options, printing, exit codes, signals; no decisions."""
