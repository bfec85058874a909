"""Scores of any images by any detector."""
