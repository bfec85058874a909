"""Room: one self-contained page of what detectors can do, and on what grounds."""
