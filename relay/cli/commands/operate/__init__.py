"""Commands that act on many callbacks at once, each by one operation of the daemon."""
