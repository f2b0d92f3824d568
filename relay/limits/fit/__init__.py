"""Which limit explains the history best: candidates, families of limits, likelihood."""
