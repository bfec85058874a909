"""What settings and the code behind them share: the version, and defaults."""

__version__ = "0.1.0"
NUM_RESAMPLES = 1000
PUBLISHED_SEED = 42  # of the published test set's draws
# The threshold where nothing else is decided: no calibration, or no rate asked of one.
EVEN_ODDS = 0.5
RESNET50_NODOWN = "resnet50-nodown"  # without the first strides
