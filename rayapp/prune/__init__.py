"""Room: the dataset holds exactly what the annotation lists name."""
