"""Defaults that settings and the code behind them share."""

NUM_RESAMPLES = 1000
PUBLISHED_SEED = 42  # of the published test set's draws
