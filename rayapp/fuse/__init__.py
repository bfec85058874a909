"""Several detectors as one: weights fitted on stored scores."""
