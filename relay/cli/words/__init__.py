"""What the relay's codes mean, for people, without asking a daemon."""
