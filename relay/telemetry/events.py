"""One method per fact; each becomes a log line and a metric, never one without the other.

Names are stable: dashboards and log searches are built on them. No payload, key or secret is ever an argument.
"""
