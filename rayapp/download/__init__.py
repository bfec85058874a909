"""Download: fetch what the annotations name, and nothing else."""
