"""What a trial does and how it is judged."""
