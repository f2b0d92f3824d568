"""The demonstration: a real daemon, a limit, one SIGKILL, and what came of it."""
