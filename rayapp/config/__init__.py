"""Ground: errors, typed settings, packaged files, memory."""
