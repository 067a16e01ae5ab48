"""Losses: pure functions on the embeddings of the global batch, one file per family; they know torch only."""
