"""What lies on the server sealed: the keys that all hosts share, and what is sealed and opened with them."""
