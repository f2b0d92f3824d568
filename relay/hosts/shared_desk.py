"""Slots for others where hosts share the store: handed out by the owner of the limits, asked for on any host."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from relay.core.clock import Clock
from relay.core.errors import Fenced, StoreFailed
from relay.core.lending import LentSlots, LimitName
from relay.core.model import UNROUTED, WaitUntil
from relay.hosts.errands import Errands
from relay.ingest.lending.desk import SlotDesk

_TAKE: Final = "slots.take"
_RELEASE: Final = "slots.release"
_REPORT: Final = "slots.report"
VERBS: Final = frozenset((_TAKE, _RELEASE, _REPORT))


class SharedDesk:
    """What the ingest listener uses in the place of this host's own desk."""

    def __init__(self, local: SlotDesk, errands: Errands, *, owns: Callable[[str], bool], clock: Clock) -> None:
        """``owns`` says whether this host owns a platform now."""
        self._local = local
        self._errands = errands
        self._owns = owns
        self._clock = clock
        self.find = local.find
        self.under = local.under
        self.names = local.names

    async def take(
        self, of: LimitName, count: int, wait_s: float, *, gone: Callable[[], bool]
    ) -> LentSlots | WaitUntil:
        """See ``SlotDesk``; so for the others. Where the owner changes meanwhile, the next one is asked."""
        deadline = self._clock.now() + wait_s
        if self._owns(self._home(of)):
            try:
                return await self._local.take(of, count, wait_s, gone=gone)
            except Fenced:  # handed over while it waited
                wait_s = max(0.0, deadline - self._clock.now())
        found = _taken(await self._ask(of, _TAKE, wait_s, count=count, wait_s=wait_s))
        if isinstance(found, LentSlots) and gone():
            await self.release(of, found.ids, unused=True)
            return WaitUntil(self._clock.now(), "closed")
        return found

    async def release(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> int:
        """Give slots back; return how many there were."""
        if self._owns(self._home(of)):
            try:
                return await self._local.release(of, ids, unused=unused)
            except Fenced:
                pass  # nothing was given back yet
        return int(await self._ask(of, _RELEASE, ids=list(ids), unused=unused))

    async def report(self, of: LimitName, count: int, *, refused: bool, wait_s: float | None) -> None:
        """Count requests that were sent without slots."""
        if self._owns(self._home(of)):
            try:
                return await self._local.report(of, count, refused=refused, wait_s=wait_s)
            except Fenced:
                pass  # nothing was counted yet
        await self._ask(of, _REPORT, count=count, refused=refused, wait_s=wait_s)
        return None

    def _home(self, of: LimitName) -> str:
        """Return the platform whose owner hands these slots out, as ``relay.store.redis.write.lending`` does."""
        return min(self._local.under(of), default=UNROUTED)

    async def _ask(self, of: LimitName, verb: str, longer_s: float = 0.0, **words: Any) -> Any:
        home = self._home(of)
        try:
            return await self._errands.ask(home, verb, longer_s=longer_s, of=list(of), **words)
        except KeyError:
            raise StoreFailed(
                f"the owner of {home} does not hand out slots of these limits; is its file older?"
            ) from None


async def hand_out(desk: SlotDesk, verb: str, words: Mapping[str, Any]) -> Any:
    """Do here what another host asked for."""
    of = LimitName(*words["of"])
    if verb == _TAKE:
        found = await desk.take(of, words["count"], words["wait_s"], gone=lambda: False)
        if isinstance(found, LentSlots):
            return {"ids": list(found.ids), "send_by": found.send_by}
        return {"at": found.at if math.isfinite(found.at) else None, "reason": found.reason}
    if verb == _RELEASE:
        return await desk.release(of, words["ids"], unused=words["unused"])
    return await desk.report(of, words["count"], refused=words["refused"], wait_s=words["wait_s"])


def _taken(answer: Mapping[str, Any]) -> LentSlots | WaitUntil:
    if "ids" in answer:
        return LentSlots(answer["ids"], answer["send_by"])
    # An owner that stops hands over: the next one is asked by whoever comes again.
    reason = "limit" if answer["reason"] == "closed" else answer["reason"]
    return WaitUntil(math.inf if answer["at"] is None else answer["at"], reason)
