"""Platforms as they answer: bodies as recorded, signatures and tokens verified, failures as documented."""
