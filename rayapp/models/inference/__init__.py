"""A network made ready for scoring."""
