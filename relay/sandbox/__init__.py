"""A platform stand-in with limits and faults, and the demo that uses it."""
