"""A store that is not sealed: memory, whose data is gone with the process, and a server, which many hosts share."""

import hashlib

from relay.core.errors import NotSealed, StoreUnusable
from relay.core.raw import Record
from relay.sealing.master_keys import KeySource
from relay.views.sealing_view import KEYS_OFF, KeysRotated, KeysView


def plain_mark(key: str) -> str:
    """Return what stands for an ordering key that was forgotten: a hash, keyed with nothing."""
    return f"hash:{hashlib.sha256(key.encode()).hexdigest()[:24]}"


class Unsealed:
    """Implements ``relay.store.sealing.Sealing``; ``what`` names the store in refusals."""

    def __init__(self, what: str) -> None:
        self._what = what

    async def status(self) -> KeysView:
        """Return that nothing is sealed."""
        return KEYS_OFF

    def mark(self, key: str) -> str:
        """Return what stands for an ordering key in records."""
        return plain_mark(key)

    async def step(self) -> bool:
        """Return that nothing is to do."""
        return False

    async def use(self, source: KeySource | None) -> None:
        """Refuse keys."""
        if source is not None:
            raise StoreUnusable(f"{self._what} cannot be sealed by this version: take privacy.encrypt out")

    async def rotate(self, *, deed: Record | None = None) -> KeysRotated:
        """Refuse."""
        raise NotSealed(f"{self._what} is not sealed")
