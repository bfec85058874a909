"""What bytes come in: ZIP, tar, 7z."""
