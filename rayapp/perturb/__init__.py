"""The perturbed test set: every annotated image under a protocol, the same on any machine."""
