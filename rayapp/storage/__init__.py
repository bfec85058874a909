"""Ground: files under a root URI, on local disk or S3."""
