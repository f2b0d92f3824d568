"""Compares what the order center, the relay and a platform know of the same orders."""
