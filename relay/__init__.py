"""The relay: status callbacks to external platforms, durable, batched, in order and never above their limits."""
