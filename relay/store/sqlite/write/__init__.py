"""What changes rows, always inside the group's transaction."""
