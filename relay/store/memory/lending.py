"""Slots that others take, in plain dicts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from relay.core.clock import Clock
from relay.core.lending import UNSEEN_S, LentSlots, LimitName, SlotWish
from relay.core.model import Purpose, WaitUntil
from relay.store.quota_lines import Sent
from relay.store.slots import Slots


@dataclass(slots=True)
class _Lent:
    of: LimitName
    taken_at: float
    counts_from: float
    done: bool


class MemoryLending:
    """Implements ``relay.store.lending.Lending``; ``changed`` is called after each change of slots."""

    def __init__(self, slots: Slots, clock: Clock, *, changed: Callable[[], None]) -> None:
        self._slots = slots
        self._clock = clock
        self._changed = changed
        self._lent: dict[str, _Lent] = {}
        self._number = 0

    async def lend(self, wish: SlotWish) -> LentSlots | WaitUntil:
        """Hold slots, or say until when to wait."""
        of, now = wish.of, self._clock.now()
        if not self._slots.knows(of):
            return WaitUntil(now, "unknown")
        wait = self._slots.ready_for(of, wish.slots, now, waits=wish.waits)
        if wait is not None:
            self._changed()
            return wait
        send_by = now + wish.send_within_s
        ids = [self._record(of, now, send_by + UNSEEN_S, done=False) for _ in range(wish.slots)]
        self._changed()
        return LentSlots(ids, send_by)

    async def give_back(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> list[LimitName]:
        """Let slots count from now, or no more."""
        now = self._clock.now()
        given: list[LimitName] = []
        for name in ids:
            lent = self._lent.get(name)
            if lent is None or lent.done or lent.of[:2] != of[:2]:
                continue
            given.append(lent.of)
            if unused:
                del self._lent[name]
                self._slots.take_back(lent.of, lent.counts_from, now)
            else:
                self._slots.moved(lent.of, lent.counts_from, now)
                lent.counts_from, lent.done = now, True
        self._changed()
        return given

    async def note_sent(self, of: LimitName, count: int) -> bool:
        """Count requests that were sent without slots."""
        if not self._slots.knows(of):
            return False
        now = self._clock.now()
        for _ in range(count):
            self._record(of, now, now, done=True)
        self._changed()
        return True

    def _record(self, of: LimitName, now: float, counts_from: float, *, done: bool) -> str:
        self._number += 1
        name = f"s{self._number}"
        self._lent[name] = _Lent(of, now, counts_from, done)
        self._slots.lend(of, now, counts_from)
        return name

    def sent(self, since: float) -> Iterable[Sent]:
        """Return the slots that count from after ``since``."""
        for number, each in enumerate(self._lent.values()):
            of = each.of
            if each.counts_from > since:
                yield Sent(
                    number, of.platform, of.group, each.taken_at, each.counts_from, 0.0, Purpose.EXTERNAL, of.quota
                )

    def forget(self, before: float) -> None:
        """Forget slots that count nowhere any more."""
        self._lent = {name: each for name, each in self._lent.items() if each.counts_from >= before}
