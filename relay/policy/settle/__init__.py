"""What an answer changes: the items, the batch, the gate."""
