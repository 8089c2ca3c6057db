"""Results for people: terminal text, tables, HTML pages, plots, overlays."""
