"""Room: images packed into lossless tiles."""
