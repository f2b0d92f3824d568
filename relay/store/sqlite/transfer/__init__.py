"""A store in a file as either side of a copy."""
