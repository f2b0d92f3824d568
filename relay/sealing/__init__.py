"""What lies in a store is sealed: keys, wrapped keys, and values that open in their own place only."""
