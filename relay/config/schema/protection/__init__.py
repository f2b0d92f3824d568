"""What protects callbacks: keys at rest, views for people, and the wire."""
