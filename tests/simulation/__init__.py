"""Seeded simulation of the whole daemon in virtual time, on a disk and a network that fail (README.md)."""
