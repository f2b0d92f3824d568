"""Payloads into one request body."""
