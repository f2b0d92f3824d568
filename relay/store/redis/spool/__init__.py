"""Where posts wait on this host while the server is away."""
