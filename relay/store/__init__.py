"""The durable queue: protocols, the shared slot keeping, and its backends."""
