"""What the relay is measured beside: fastify with BullMQ, and syslog-ng. ``make bench-peers`` installs them."""
