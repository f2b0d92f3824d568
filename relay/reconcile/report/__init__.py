"""What is kept of a run and shown of it: one page in both languages, CSV and JSON."""
