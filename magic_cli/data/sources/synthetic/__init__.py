"""Drawn photos, masks, texts and answers: what `magic demo` and the tests work on."""
