"""Ordering keys that an operator holds back, in memory."""

from collections.abc import Callable

from relay.core.raw import Record
from relay.store.memory.rows import Shelf


class MemoryHeldKeys:
    """Implements ``relay.store.held_keys.HeldKeys``. ``done`` is called after each change, with its audit record."""

    def __init__(self, shelf: Shelf, done: Callable[[Record | None], None]) -> None:
        self._shelf = shelf
        self._done = done

    async def hold(self, platform: str, key: str, reason: str, *, deed: Record | None = None) -> int:
        """Claim nothing more of a key; return how many callbacks of it are pending."""
        self._shelf.held_keys[platform, key] = reason
        self._shelf.look_again(platform, key)
        self._done(deed)
        return len(self._shelf.pending_of(platform, key))

    async def release(self, platform: str, key: str, *, deed: Record | None = None) -> bool:
        """Let a key go on; return whether it was held."""
        held = self._shelf.held_keys.pop((platform, key), None) is not None
        self._shelf.look_again(platform, key)
        self._done(deed)
        return held
