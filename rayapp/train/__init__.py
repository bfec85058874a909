"""Training on any number of workers: an encoder by contrast or cross-entropy, a head on it."""
