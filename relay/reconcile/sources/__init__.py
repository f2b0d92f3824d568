"""Where the orders of a side come from: files, databases, pages of a platform's answers."""
