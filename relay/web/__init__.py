"""What both listeners share: listening, guarding, reading bodies, telling problems."""
