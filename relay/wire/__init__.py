"""Pure translation between callbacks and HTTP: bytes in, bytes out."""
