"""What both listeners share: listening, guarding, reading bodies, answering with problems."""
