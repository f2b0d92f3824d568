"""What is wrong, in our words and with its place; the schema for editors."""
