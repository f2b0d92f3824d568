"""The server: its connection, its scripts, the names of keys and the places of fields."""
