"""From the store to the platforms."""
