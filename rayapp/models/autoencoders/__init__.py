"""Autoencoders that photographs are passed through: what they are as data, and their networks."""
