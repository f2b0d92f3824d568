"""The default store: one SQLite file, one writing thread."""
