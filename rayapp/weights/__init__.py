"""Room: weights of published detectors."""
