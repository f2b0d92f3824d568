"""The listener: its table of routes, how one is served, how it is told of."""
