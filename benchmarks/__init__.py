"""The table of SPEC 10 with this machine's figures: ``python -m benchmarks``."""
