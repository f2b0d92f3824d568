"""Slots that others take, over a shared store: handed out by the owner of the limits, recorded before the answer.

A slot of a platform's limits is recorded at that platform. One of a shared quota is recorded at the first, by name, of
the platforms under it: they have one owner. One of a quota without platforms is recorded at ``_unrouted``, which
always has an owner.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from relay.core.clock import Clock
from relay.core.errors import Fenced, StoreFailed
from relay.core.ids import encode_id
from relay.core.lending import UNSEEN_S, LentSlots, LimitName, SlotWish
from relay.core.model import UNROUTED, StoreRules, WaitUntil
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.server.fields import pack
from relay.store.redis.server.tags import PlatformTags

_LETTER: Final = "s"


def lent_at(of: LimitName, rules: StoreRules) -> str:
    """Return the platform at which slots of these limits are recorded, and whose owner hands them out."""
    if of.platform:
        return of.platform
    return min((name for name, rule in rules.platforms.items() if of.quota in rule.quotas), default=UNROUTED)


class RedisLending:
    """Implements ``relay.store.lending.Lending`` for the platforms this host owns. Raises ``Fenced`` for others."""

    def __init__(
        self,
        tags: PlatformTags,
        clock: Clock,
        owned: OwnedPlatforms,
        *,
        changed: Callable[[str, int], None],
    ) -> None:
        """``changed(platform, 0)`` is told whose wait became shorter."""
        self._tags = tags
        self._clock = clock
        self._owned = owned
        self._changed = changed

    async def lend(self, wish: SlotWish) -> LentSlots | WaitUntil:
        """Hold slots and record them, or say until when to wait."""
        async with self._owned.changing:
            now, home = self._clock.now(), self._home(wish.of)
            if home is None:
                return WaitUntil(now, "unknown")
            wait = self._owned.slots.ready_for(wish.of, wish.slots, now, waits=wish.waits)
            if wait is None:
                send_by = now + wish.send_within_s
                numbers = await self._record(home, wish.of, wish.slots, send_by + UNSEEN_S, done=False)
        self._wake()
        if wait is not None:
            return wait
        tag = self._tags.known(home)
        return LentSlots([_LETTER + encode_id(number, tag) for number in numbers], send_by)

    async def give_back(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> list[LimitName]:
        """Let slots count from now, or no more."""
        places: dict[str, list[int]] = {}
        for text in ids:
            place = self._tags.find(text[1:]) if text.startswith(_LETTER) else None
            if place is not None:
                places.setdefault(place[0], []).append(place[1])
        given: list[LimitName] = []
        async with self._owned.changing:
            for platform, numbers in places.items():
                given += await self._return(platform, of, numbers, unused=unused)
        self._wake()
        return given

    async def _return(self, platform: str, of: LimitName, numbers: Iterable[int], *, unused: bool) -> list[LimitName]:
        facts = (int(unused), of.platform, of.quota, *numbers)
        (found,) = await self._owned.last.write(platform, [self._owned.call("return", platform, *facts)])
        now, given = self._clock.now(), []
        for _, group, until in found:
            whose = of._replace(group=group.decode())
            given.append(whose)
            if unused:
                self._owned.slots.take_back(whose, float(until), now)
            else:
                self._owned.slots.moved(whose, float(until), now)
        return given

    async def note_sent(self, of: LimitName, count: int) -> bool:
        """Count requests that were sent without slots."""
        async with self._owned.changing:
            home = self._home(of)
            if home is not None and count:
                await self._record(home, of, count, self._clock.now(), done=True)
        self._wake()
        return home is not None

    def _home(self, of: LimitName) -> str | None:
        """Return where slots of these limits are recorded; None where there are no such limits."""
        rules = self._owned.rules
        if of.quota not in rules.quotas if of.quota else of.platform not in rules.platforms:
            return None
        home = lent_at(of, rules)
        if not self._owned.owns(home):
            raise Fenced(f"this host does not own {home}, whose limits these are; nothing was handed out")
        return home

    async def _record(self, home: str, of: LimitName, count: int, counts_from: float, *, done: bool) -> list[int]:
        """Hold slots at once, then record them; what is perhaps recorded stays held."""
        await self._tags.name(home)
        slots, now = self._owned.slots, self._clock.now()
        numbers = [self._owned.next_number() for _ in range(count)]
        kept = pack([of.platform, of.quota, of.group, now, counts_from, int(done)])
        for _ in numbers:
            slots.lend(of, now, counts_from)
        facts = [each for number in numbers for each in (number, kept, repr(counts_from))]
        try:
            await self._owned.last.write(home, [self._owned.call("lend", home, *facts)])
        except StoreFailed:
            raise
        except Exception:  # of any other kind: nothing is recorded, so nothing stays lent
            for _ in numbers:
                slots.take_back(of, counts_from, now)
            raise
        return numbers

    def _wake(self) -> None:
        for party in self._owned.slots.drain_wakes():
            self._changed(party, 0)
