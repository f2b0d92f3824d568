"""What ``/readyz`` says beside yes and no: what is not well although the store commits."""

import asyncio
from collections.abc import Callable, Sequence

from relay.core.clock import LEAP_S
from relay.core.plural import count
from relay.store.base import Store
from relay.views.queue import StoreSize

_READ_S = 0.2
_NEARLY = 0.9  # of what posts may use: from here on a person should look


class Readiness:
    """Asks the store, whose figures are those that decide about a post, and ``others``: each says what is not well."""

    def __init__(self, store: Store, others: Sequence[Callable[[], str]]) -> None:
        self._store = store
        self._others = others
        self._reading: asyncio.Future[StoreSize] | None = None
        self._told: list[str] = []

    async def check(self) -> list[str]:
        """Commit once, and return what is not well, in words. Raises ``StoreFailed`` when nothing can be committed."""
        await self._store.ping()
        reading = self._reading = self._reading or asyncio.ensure_future(self._store.size())
        # Reads wait for each other. Behind a long one the last answer is given again, so readiness stays quick.
        await asyncio.wait((reading,), timeout=_READ_S)
        if reading.done():
            self._reading = None
            self._told = _told_of(reading.result())
        return [*self._told, *filter(None, (self._leap(), *(tell() for tell in self._others)))]

    def _leap(self) -> str:
        leap = self._store.leap
        if leap is None or self._store.clock.now() >= leap.doubted_until:
            return ""
        days = f"{leap.ahead_s / LEAP_S:.0f} days"
        return (
            f"clock_ahead: at the boot the clock was {days} ahead of the last time in the store, and no time service "
            "had set it; where it is wrong, what waited has expired too early (relay dead retry --state expired); for "
            "a day nothing is removed for its age"
        )


def _told_of(size: StoreSize) -> list[str]:
    used, usable = size.used_bytes, size.usable_bytes
    spooling = (
        f"spooling: {count(size.spooled, 'callback')} on this host until the store is back"
        if size.spooled or size.spooling
        else ""
    )
    moving = (
        f"history_failed: {size.history_fails}; what ended stays on the server meanwhile" if size.history_fails else ""
    )
    aside = (
        f"spool_set_aside: {count(size.set_aside, 'post')} in the spool of this host cannot be brought into the store; "
        "the log names them, the order center posts them again"
        if size.set_aside
        else ""
    )
    return [*filter(None, (spooling, aside, moving)), *_room_of(size, used, usable)]


def _room_of(size: StoreSize, used: int, usable: int) -> list[str]:
    if size.full:
        return [
            f"store_full: it uses {used} of the {usable} bytes that posts may use, so posts are refused; deliver "
            "or drop dead letters, or raise store.max_size"
        ]
    if used > usable * _NEARLY and usable:
        return [f"store_nearly_full: it uses {used} of the {usable} bytes that posts may use"]
    return []
