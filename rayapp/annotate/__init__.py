"""Room: own images become annotation lists, without one being written by hand."""
