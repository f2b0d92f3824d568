"""Memory is not sealed: what it holds is gone with the process."""

from relay.core.errors import NotSealed, StoreUnusable
from relay.core.raw import Record
from relay.sealing.master_keys import KeySource
from relay.store.memory.operations import mark
from relay.views.sealing_view import KEYS_OFF, KeysRotated, KeysView


class NothingSealed:
    """Implements ``relay.store.sealing.Sealing``."""

    async def status(self) -> KeysView:
        """Return that nothing is sealed."""
        return KEYS_OFF

    def mark(self, key: str) -> str:
        """Return what stands for an ordering key in records."""
        return mark(key)

    async def step(self) -> bool:
        """Return that nothing is to do."""
        return False

    async def use(self, source: KeySource | None) -> None:
        """Refuse keys."""
        if source is not None:
            raise StoreUnusable("a store in memory is not sealed")

    async def rotate(self, *, deed: Record | None = None) -> KeysRotated:
        """Refuse."""
        raise NotSealed("the store is not sealed")
