"""What people did, and the proof that nobody changed the record of it."""
