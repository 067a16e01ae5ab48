"""Judging an encoder: its features of un-augmented images, and the protocols that score them."""
