"""How things stand, in numbers and words for people."""
