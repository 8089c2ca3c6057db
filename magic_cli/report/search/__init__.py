"""The result of `magic search`: what it says on a terminal, in files, on a page and on a local server."""
