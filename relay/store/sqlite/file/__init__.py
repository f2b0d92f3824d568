"""The file itself: opening, locking, schema, names as numbers."""
