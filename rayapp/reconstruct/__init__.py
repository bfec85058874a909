"""Pairs to learn from: a real image, and the same through the autoencoder of a generator."""
