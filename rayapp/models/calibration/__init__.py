"""Calibrators: from logit to probability, threshold and band."""
