"""What every run does: its record, rows and their parts, progress."""
