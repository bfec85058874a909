"""Room: from stored scores to a detector that says how sure it is."""
