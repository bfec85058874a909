"""Export: a detector in a form that other programs run."""
