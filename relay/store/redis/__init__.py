"""One Valkey or Redis behind the store protocol, for several hosts."""
