"""Reading fields out of payloads, byte for byte."""
