"""Middle room: figures, intervals and tests of detectors, on NumPy arrays; pure, never Ray.

Shape suffixes: N items, R resamples, T distinct thresholds, G groups, K classes.
Label 1 is synthetic and label 0 is real; a higher score or probability means synthetic.
"""
