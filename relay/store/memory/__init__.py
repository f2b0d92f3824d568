"""A store in plain dicts: the whole protocol, no durability; for simulation and as the reference in tests."""
