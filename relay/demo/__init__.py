"""The demonstration: a real daemon, a limit, one SIGKILL, and the figures after it."""
