"""What proves to a platform who is asking: credentials and signatures."""
