"""The DermaVQA folder of the MEDIQA-MAGIC challenge."""
