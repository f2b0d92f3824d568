"""The fault laboratory: what a disk does to a store at its worst moment, and who judges what is left."""
