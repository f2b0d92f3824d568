"""The daemon's part in comparisons: running them, and asking platforms for them."""
