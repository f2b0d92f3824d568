"""Questions to a platform beside the deliveries: what it shows of its orders."""
