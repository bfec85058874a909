"""The perturbed test set: every annotated image under a perturbation, the same on any machine."""
