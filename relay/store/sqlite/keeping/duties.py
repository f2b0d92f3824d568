"""Expiry and pruning as the store runs them: in one commit, or where pages are damaged each part of them by itself.

So what one platform, or one kind of row, has on a damaged page holds up no other. The writer tells of each damage.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Generic, TypeVar

from relay.core.clock import Clock, Leap
from relay.core.errors import StoreDamaged
from relay.core.model import Expired
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.transaction import Transaction, Writes
from relay.store.sqlite.write.apart.around import Around, AroundNothing
from relay.store.sqlite.write.expiry import Expiring, Overdue, together
from relay.store.sqlite.write.prune import Pruning

_Done = TypeVar("_Done")
_Part = Callable[[Transaction, Around], _Done]
_Parts = Mapping[str, tuple[type[Around], _Part[_Done]]]

_TRIES: Final = 64  # of one part in a round: a page holds some fifty rows, each of which is found out by itself


class _InParts(Generic[_Done]):
    """One duty: ``parts()`` gives what a step of it consists of."""

    def __init__(self, commit: Writes, parts: Callable[[], _Parts[_Done]]) -> None:
        self._commit = commit
        self._parts = parts
        self._around: dict[str, Around] = {}
        self._apart = False  # the last step met a damaged page

    def around(self, name: str, kind: type[Around] = Around) -> Around:
        """Return what a part goes around damage by."""
        return self._around.setdefault(name, kind())

    async def step(self) -> list[_Done]:
        """Do a step; return what became of each part that could be done. Raises ``StoreFailed``."""
        parts = self._parts()
        runs = [(self.around(name, kind), run) for name, (kind, run) in parts.items()]
        if not self._apart:
            with suppress(StoreDamaged):  # the writer told of it; which part it was is found out below
                done = await self._commit(lambda transaction: [run(transaction, around) for around, run in runs])
                for around, _ in runs:
                    around.went()
                return done
        self._apart = False
        found = await asyncio.gather(*(self._alone(around, run) for around, run in runs))
        return [each for done in found for each in done]

    async def _alone(self, around: Around, run: _Part[_Done]) -> list[_Done]:
        around.begin()
        for _ in range(_TRIES):
            try:
                done = await self._commit(lambda transaction: run(transaction, around))
            except StoreDamaged as damaged:
                self._apart = True
                around.met(damaged.rows)
                if around.stuck:
                    break
            else:
                around.went()
                return [done]
        return []


class Duties:
    """What the protocol asks of a store: steps of expiry and of pruning."""

    def __init__(
        self,
        commit: Writes,
        *,
        names: Names,
        expiring: Expiring,
        pruning: Pruning,
        clock: Clock,
        leap: Leap | None,
    ) -> None:
        """``leap``: of the wall clock over a reboot. While it is doubted nothing is removed for its age."""
        self._commit = commit
        self._names = names
        self._expiring = expiring
        self._pruning = pruning
        self._clock = clock
        self._leap = leap
        self._expiry = _InParts(commit, self._overdue)
        self._prune = _InParts(commit, pruning.parts)

    async def expire(self) -> Expired:
        """End one step of the pending callbacks whose time is over."""
        return together(await self._expiry.step())

    def _overdue(self) -> _Parts[Overdue]:
        expiring = self._expiring
        parts: dict[str, tuple[type[Around], _Part[Overdue]]] = {"batches": (Around, expiring.end_late_batches)}
        for name, number in self._names.all().items():
            parts[f"late {name}"] = Around, partial(expiring.end_late, name=name, platform=number)
            late = self._expiry.around(f"late {name}")
            parts[f"ahead {name}"] = AroundNothing, partial(expiring.look_ahead, platform=number, late=late)
        return parts

    async def prune(self) -> bool:
        """Delete one small step of what need not be kept; return whether there may be more."""
        if self._leap is not None and self._clock.now() < self._leap.doubted_until:
            return False
        more = any(await self._prune.step())
        with suppress(StoreDamaged):  # the writer told of it; free pages stay in the file, and are used again
            await self._commit(self._pruning.vacuum_step)
        return more
