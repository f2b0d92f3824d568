"""Who takes slots, and who waits for them: first come, first served for each limit.

All who take slots of a limit are one party in front of it, and take turns with the relay's own work
(``policy.sharing``). Among them the one that came first goes first. Who wants several at once gets them one by one
while it waits, so that a party that takes each slot as it comes free cannot keep it out.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from relay.core.clock import Clock
from relay.core.lending import OTHERS, LentSlots, LimitName, SlotWish
from relay.core.model import WaitUntil
from relay.store.lending import Lending

SEND_WITHIN_S: Final = 10.0
"""How long after it was taken the request of a slot may be sent."""

_NEVER: Final = ("never", "unknown")
_BEHIND: Final = WaitUntil(math.inf, "limit")  # others came before


class LimitDirectory(NamedTuple):
    """The limits that slots are taken of: shared quotas with the platforms under each, and platforms by themselves."""

    quotas: Mapping[str, Sequence[str]]
    platforms: frozenset[str]

    def find(self, name: str, group: str) -> LimitName | None:
        """Return what ``name`` means: a quota, else the limits of the platform called so; None for neither."""
        if name in self.quotas:
            return LimitName("", name, group)
        return LimitName(name, "", group) if name in self.platforms else None

    def under(self, of: LimitName) -> Sequence[str]:
        """Return the platforms whose requests such a slot counts against."""
        return (of.platform,) if of.platform else self.quotas.get(of.quota, ())


class Deliveries(Protocol):
    """What the relay's own work to a platform knows, and is told of the requests of others."""

    def stopped_until(self, platform: str, group: str) -> float:
        """Return until when the platform, or the group, asked to be left alone (relay clock); the past: it did not."""
        ...

    def accepted(self, platform: str, group: str, count: int) -> None:
        """Take note of requests of others that were let through."""
        ...

    async def refused(self, platform: str, group: str, wait_s: float | None) -> None:
        """Stop the platform, or the group, as if a request of the relay's own had been refused."""
        ...


class LendingDesk(Protocol):
    """What the routes ask: ``SlotDesk``, or what asks that of another host. See there."""

    def find(self, name: str, group: str) -> LimitName | None:
        """Return the limits that ``name`` means; None for none."""
        ...

    def under(self, of: LimitName) -> Sequence[str]:
        """Return the platforms whose requests such a slot counts against."""
        ...

    def names(self) -> list[str]:
        """Return what may be named."""
        ...

    async def take(
        self, of: LimitName, count: int, wait_s: float, *, gone: Callable[[], bool]
    ) -> LentSlots | WaitUntil:
        """Take so many slots, or say when it may be worth to ask again."""
        ...

    async def release(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> int:
        """Give slots back; return how many there were."""
        ...

    async def report(self, of: LimitName, count: int, *, refused: bool, wait_s: float | None) -> None:
        """Count requests that were sent without slots."""
        ...


class SlotDesk:
    """Hands slots out and takes them back."""

    def __init__(
        self, lending: Lending, deliveries: Deliveries, *, clock: Clock, directory: Callable[[], LimitDirectory]
    ) -> None:
        """``directory`` returns the limits in force."""
        self._lending = lending
        self._deliveries = deliveries
        self._clock = clock
        self._directory = directory
        self._lines: dict[LimitName, list[object]] = {}  # who waits, the first first
        self._sleepers: set[asyncio.Future[None]] = set()
        self._wakes = 0
        self._closed = False

    def find(self, name: str, group: str) -> LimitName | None:
        """Return the limits that ``name`` means; None for none."""
        return self._directory().find(name, group)

    def under(self, of: LimitName) -> Sequence[str]:
        """Return the platforms whose requests such a slot counts against."""
        return self._directory().under(of)

    def names(self) -> list[str]:
        """Return what may be named."""
        quotas, platforms = self._directory()
        return [*quotas, *platforms]

    def changed(self, party: str, _count: int) -> None:
        """Let those who wait look again: the store says that slots came nearer."""
        if party == OTHERS:
            self._wake()

    def close(self) -> None:
        """Send away who waits: the relay stops."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._wakes += 1
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def take(
        self, of: LimitName, count: int, wait_s: float, *, gone: Callable[[], bool]
    ) -> LentSlots | WaitUntil:
        """Take so many slots, waiting up to ``wait_s`` for them; or say when it may be worth to ask again.

        The reason is that of ``Lending.lend``, or ``throttled``, ``closed``. ``gone`` says that nobody is there any
        more to use them. May raise ``StoreFailed``.
        """
        deadline = self._clock.now() + wait_s
        ticket = object()
        line = self._lines.setdefault(of, [])
        line.append(ticket)
        taken: list[LentSlots] = []
        found: LentSlots | WaitUntil
        try:
            while True:
                wakes, found = self._wakes, _BEHIND
                if line[0] is ticket:
                    found = await self._look(of, count - _count(taken), left_s=deadline - self._clock.now())
                if isinstance(found, LentSlots):
                    taken.append(found)
                now = self._clock.now()
                if self._closed or gone():
                    return WaitUntil(now, "closed")
                if _count(taken) == count:
                    whole, taken = _together(taken), []
                    return whole
                if isinstance(found, WaitUntil):
                    if now >= deadline or found.reason in _NEVER:
                        return found
                    if wakes == self._wakes:
                        await self._sleep(min(found.at, deadline))
        finally:
            line.remove(ticket)
            if not line:
                del self._lines[of]
            self._wake()
            if taken:
                await self._lending.give_back(of, [name for part in taken for name in part.ids], unused=True)

    async def release(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> int:
        """Give slots back; return how many there were."""
        given = Counter(await self._lending.give_back(of, ids, unused=unused))
        if not unused:
            for whose, count in given.items():
                self._accepted(whose, count)
        return given.total()

    async def report(self, of: LimitName, count: int, *, refused: bool, wait_s: float | None) -> None:
        """Count requests that were sent without slots. One that was refused stops the platforms under the limits."""
        await self._lending.note_sent(of, count)
        self._accepted(of, max(0, count - refused))
        if refused:
            for platform in self._directory().under(of):
                await self._deliveries.refused(platform, of.group, wait_s)

    def _accepted(self, of: LimitName, count: int) -> None:
        if of.platform:  # of a shared quota nobody knows which platform it was
            self._deliveries.accepted(of.platform, of.group, count)

    async def _look(self, of: LimitName, count: int, *, left_s: float) -> LentSlots | WaitUntil:
        """Take so many slots at once; where they must be waited for, one of them."""
        stopped_until = self._deliveries.stopped_until(of.platform, of.group) if of.platform else 0.0
        if stopped_until > self._clock.now():
            return WaitUntil(stopped_until, "throttled")
        waits = left_s > 0
        found = await self._lending.lend(SlotWish(of, count, SEND_WITHIN_S, waits))
        if isinstance(found, LentSlots) or count == 1 or not waits or found.reason in _NEVER:
            return found
        return await self._lending.lend(SlotWish(of, 1, left_s + SEND_WITHIN_S, waits))

    async def _sleep(self, until: float) -> None:
        """Sleep until the relay clock shows ``until``, or somebody wakes all."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        self._sleepers.add(sleeper)
        try:
            await asyncio.wait((sleeper,), timeout=max(0.0, until - self._clock.now()))
        finally:
            self._sleepers.discard(sleeper)
            sleeper.cancel()


def _count(taken: Sequence[LentSlots]) -> int:
    return sum(len(part.ids) for part in taken)


def _together(taken: Sequence[LentSlots]) -> LentSlots:
    """Return slots that came one after the other; the first of them must be used soonest."""
    return LentSlots([name for part in taken for name in part.ids], min(part.send_by for part in taken))
