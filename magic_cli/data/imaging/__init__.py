"""Photos and masks: read, turned, merged, written."""
