"""What only looks, on a read-only connection."""
