"""What files declare of their origin, as a table of their own, without any detector."""
