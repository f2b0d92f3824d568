"""Processes that take posts in beside the daemon: they parse and check, the daemon alone writes."""
