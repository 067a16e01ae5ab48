"""What a sweep is checked for, and how large it is, before anything starts."""
