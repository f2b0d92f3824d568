"""What is decided about ownership, with time as an argument: no I/O, no clock."""
