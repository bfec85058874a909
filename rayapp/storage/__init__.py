"""Ground: files under a root URI, on local disk or in a bucket."""
