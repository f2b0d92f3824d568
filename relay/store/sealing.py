"""What a store promises about sealing; ``store.sealing`` is it."""

from typing import Protocol

from relay.core.raw import Record
from relay.sealing.master_keys import KeySource
from relay.views.sealing_view import KeysRotated, KeysView


class Sealing(Protocol):
    """Seals what lies in a store, and changes its keys."""

    async def status(self) -> KeysView:
        """Return which keys there are, and how much is still in plain."""
        ...

    def mark(self, key: str) -> str:
        """Return what stands for an ordering key in records: a hash of it, keyed where there is a secret."""
        ...

    async def step(self) -> bool:
        """Seal a few of the callbacks that lie there in plain, or wipe what deleting left; return whether to go on."""
        ...

    async def use(self, source: KeySource | None) -> None:
        """Take over the keys of another configuration. Raises ``StoreUnusable`` and ``KeysUnavailable``: not taken."""
        ...

    async def rotate(self, *, deed: Record | None = None) -> KeysRotated:
        """Wrap all data keys with the key in force; no row is touched. Raises ``NotSealed`` where nothing is."""
        ...
