"""Any other dataset: a table whose columns `--map` names, cases in our own schema, and a second table to join."""
