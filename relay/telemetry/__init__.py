"""What happens: each fact becomes a log line and a metric."""
