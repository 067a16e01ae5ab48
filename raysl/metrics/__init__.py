"""Metrics: tensors in, numbers out. Nearest neighbours, spectra of embeddings, and signs of collapse."""
