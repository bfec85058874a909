"""Room: what a detector is, as a card."""
