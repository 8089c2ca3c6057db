"""Case indexes: cases with vectors, searched exactly, in a folder, in LanceDB or on a Qdrant server."""
