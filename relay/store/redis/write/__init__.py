"""What changes rows: each change is one script, or staged where that would take too long."""
