"""Case retrieval: queries, the gallery that they rank, and what is relevant to each."""
