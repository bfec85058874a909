"""Figures of a detector on a test set, whole and by slice, from stored scores alone."""
