"""Room: from counts of traffic to where a day differs from the calibration."""
