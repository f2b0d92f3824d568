"""What commands share: finding the daemon, reading the store without it, printing."""
