"""What keeps the store: the keys it is sealed with, backups."""
