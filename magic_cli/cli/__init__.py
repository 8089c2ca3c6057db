"""The command line: options, output, exit codes; no domain logic."""
