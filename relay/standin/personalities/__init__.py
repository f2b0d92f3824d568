"""Real platforms imitated: bodies as recorded, signatures and tokens verified, failures as documented."""
