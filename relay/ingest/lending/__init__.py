"""Slots of the limits for whoever else uses the same app key: take, release, report."""
