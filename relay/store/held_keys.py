"""What a store promises of single ordering keys that an operator holds back: one order, with all that comes of it."""

from typing import Protocol

from relay.core.raw import Record


class HeldKeys(Protocol):
    """Holds keys, durably; each with the audit record ``deed`` in the same commit, where the store has one."""

    async def hold(self, platform: str, key: str, reason: str, *, deed: Record | None = None) -> int:
        """Claim nothing more of a key, also of what comes later; return how many callbacks of it are pending.

        What is in a frozen batch goes on. They expire, are cancelled and superseded as others are.
        """
        ...

    async def release(self, platform: str, key: str, *, deed: Record | None = None) -> bool:
        """Let a key go on; return whether it was held."""
        ...
