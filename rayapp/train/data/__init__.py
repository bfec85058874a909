"""What training reads: items, crops, views, features."""
