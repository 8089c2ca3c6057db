"""Datasets of the International Skin Imaging Collaboration: its challenges, its archive, HAM10000 and MILK10k."""
