"""What ``/readyz`` tells beside yes and no: what is not well although the store commits."""

from collections.abc import Mapping

from relay.store.base import Store
from relay.upkeep.descriptors import Descriptors

_NEARLY = 0.9  # of what posts may use; from here on somebody should look


class Readiness:
    """Asks the store and who counts descriptors; told by the same figures that decide about a post."""

    def __init__(self, store: Store, descriptors: Descriptors) -> None:
        self._store = store
        self._descriptors = descriptors

    async def check(self) -> list[str]:
        """Commit once, and return what is not well, in words. Raises ``StoreFailed`` when nothing can be committed."""
        await self._store.ping()
        found = _told_of(await self._store.size())
        if self._descriptors.low:
            found.append(self._descriptors.low)
        return found


def _told_of(size: Mapping[str, int]) -> list[str]:
    used, usable = size["used_bytes"], size["usable_bytes"]
    if size["full"]:
        return [
            f"store_full: it uses {used} of the {usable} bytes that posts may use, so posts are refused; deliver "
            "or drop dead letters, or raise store.max_size"
        ]
    if used > usable * _NEARLY and usable:
        return [f"store_nearly_full: it uses {used} of the {usable} bytes that posts may use"]
    return []
