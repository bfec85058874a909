"""Backbones, losses, heads and the detector folder: plain torch, never Ray."""
