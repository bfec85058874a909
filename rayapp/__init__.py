"""ImagiNet on Ray: build the benchmark; train, calibrate and measure detectors of AI images."""

__version__ = "0.1.0"
