"""Texts of a case: the terms in them, texts made for pretraining, and queries that do not tell the label."""
