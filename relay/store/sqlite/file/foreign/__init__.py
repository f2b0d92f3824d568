"""What came from another store: ids that were given out there, its way of hashing, a log that lies under a restored file."""
