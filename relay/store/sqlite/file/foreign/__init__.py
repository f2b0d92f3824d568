"""What a file keeps of the store that it was copied from: ids that were given out there, and its way of hashing."""
