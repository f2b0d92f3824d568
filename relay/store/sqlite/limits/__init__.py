"""Of the past, what limits are counted from: requests that were sent, and slots that others took."""
