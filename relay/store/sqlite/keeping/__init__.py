"""The file's keys, and sealing what was there before them."""
