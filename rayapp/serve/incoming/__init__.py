"""What comes in: bodies and the images in them, tokens, and how much may be under way."""
