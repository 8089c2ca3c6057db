"""Drawn photos, masks, texts and answers, for `magic demo` and the tests."""
