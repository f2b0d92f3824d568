"""Tells people when something is wrong: rules over a snapshot, and a small queue of its own in memory."""
