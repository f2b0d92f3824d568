"""The one writing thread and its group commit."""
