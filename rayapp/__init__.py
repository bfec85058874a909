"""ImagiNet on Ray: build the benchmark, train, calibrate and measure detectors of synthetic images."""

__version__ = "0.1.0"
