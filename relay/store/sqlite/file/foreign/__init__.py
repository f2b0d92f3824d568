"""What came from another store: ids and the way of hashing of a copy, a log that lies under a restored file."""
