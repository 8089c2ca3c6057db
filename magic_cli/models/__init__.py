"""Encoders, the frozen-feature cache, heads and losses."""
