"""From the order center into the store."""
