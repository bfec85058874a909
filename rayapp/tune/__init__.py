"""Tune: search over training and calibration, judged on generators never trained on."""
