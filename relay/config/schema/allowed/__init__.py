"""What may be sent: limits of requests, callbacks, bytes and points."""
