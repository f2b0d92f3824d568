"""Side duties, one per module."""
