"""What keeps personal data out of sight."""
