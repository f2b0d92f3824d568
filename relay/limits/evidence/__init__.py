"""What was sent and what came of it: the bounded history that every estimate is drawn from."""
