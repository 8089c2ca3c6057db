"""One module per verb, each a typed function: the Python API that `magic_cli` hands out."""
