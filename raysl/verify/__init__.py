"""Proof that the methods are what they say: against stored vectors, worker counts and precisions."""
