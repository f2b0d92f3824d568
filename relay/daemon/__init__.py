"""Wires everything together and keeps it running."""
