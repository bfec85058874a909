"""One script a headline number."""
