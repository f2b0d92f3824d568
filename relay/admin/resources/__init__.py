"""What the routes are about: platforms, callbacks, operations, configuration."""
