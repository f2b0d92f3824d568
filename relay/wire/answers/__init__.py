"""What an answer says: outcome, results per item, hints."""
