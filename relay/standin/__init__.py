"""A platform to try things on: limits, latency, faults, and answers as real platforms give them."""
