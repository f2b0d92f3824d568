"""Commands that set the relay up on a host: they print, and change nothing."""
