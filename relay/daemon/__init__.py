"""Puts all parts together and keeps them running."""
