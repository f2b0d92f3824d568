"""What happened, once: each fact becomes a log line and a metric."""
