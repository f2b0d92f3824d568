"""What is taken apart: batches that lose some of theirs, data that is destroyed."""
