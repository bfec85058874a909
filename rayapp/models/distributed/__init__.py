"""What networks and losses share between ranks."""
