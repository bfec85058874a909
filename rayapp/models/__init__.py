"""Detectors: backbones, losses, heads, calibrators, and a detector as a folder of files."""
