"""`relay reconcile`: comparing, repairing, verifying."""
