"""`magic export`: trained models for other programs; and scores as datasets of other programs."""
