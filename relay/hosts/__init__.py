"""Several hosts over one store: which host sends for which platform, and how it changes."""
