"""Brings callbacks back from the history file to the server, where an operation that names them can act on them.

They stay there for ten minutes; what the operation has not changed by then goes to the file again. A copy that may not
be how the callback left the server last is never brought back: one that was retried and delivered would come to life
again as a dead one. So a copy counts once its deletion on the server is known, and the server keeps of each callback
that came back as what it left again (``bk``).
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from msgspec import structs

from relay.core.clock import Clock
from relay.core.errors import OUTDATED, OVERTAKEN, InHistory
from relay.core.model import State, StoreRules
from relay.store.redis.server.fields import pack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.transfer.rows import RowsToServer
from relay.store.transfer.history_file import Given, HistoryFile

_STAYS_S: Final = 600.0
_TOGETHER: Final = 20  # are in memory at once, with payloads of up to 1 MiB
MEANT: Final = {
    "retry": (State.DEAD, State.EXPIRED),
    "resend": (State.DELIVERED, State.DEAD, State.EXPIRED),
    "drop": (State.DEAD,),
}
"""Callbacks of which states an operation acts on, by its action."""
_IN_ORDER: Final = ("retry", "resend")


class Returning:
    """Brings back; ``script`` gives a script of a platform."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        rows: RowsToServer,
        *,
        script: Callable[[str], Script],
        there: Callable[[Iterable[tuple[str, str]]], Awaitable[set[str]]],
        rules: Callable[[], StoreRules],
    ) -> None:
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._rows = rows
        self._script = script
        self._there = there
        self._rules = rules

    async def bring(self, file: HistoryFile, action: str, ids: Sequence[str], *, reorder: bool) -> None:
        """Bring back those that ``action`` is about. Raises ``InHistory`` where one would arrive out of order."""
        steps = [ids[first : first + _TOGETHER] for first in range(0, len(ids), _TOGETHER)]
        for step in steps:  # all of them before the first one comes back
            for each in await _meant(file, action, step):
                if not each.sure:
                    raise InHistory(each.callback.id, file.host, OUTDATED)
                if each.overtaken and not reorder and action in _IN_ORDER:
                    raise InHistory(each.callback.id, file.host, OVERTAKEN)
        for step in steps:
            found = await _meant(file, action, step)
            for platform in dict.fromkeys(each.platform for each in found):
                await self._tags.name(platform)
                part = [each for each in found if each.platform == platform]
                named = [each.callback.id for each in part]
                put = await self._bring(platform, part)
                there = set(named) if put == len(part) else await self._there((platform, each) for each in named)
                await file.confirm((), there)
                for missing in set(named) - there:
                    raise InHistory(missing, file.host, OUTDATED)

    async def _bring(self, platform: str, given: Sequence[Given]) -> int:
        records = []
        for record in (each.callback for each in given):
            place = self._tags.find(record.id)
            own = record.at if place is None else place[1]  # the file may have numbered it anew
            hashed = "" if record.key is None else self._keys.key_hash(platform, record.key)
            records.append(structs.replace(record, at=own, place=own, key_hash=hashed))
        packed, bodies = await self._rows.callbacks(platform, records)
        now, rules = self._clock.now(), self._rules()
        for row, record, each in zip(packed, records, given, strict=True):
            attempts = [
                [attempt.at, await self._rows.fields_of(platform, attempt, 0), repr(attempt.ended_at)]
                for attempt in each.attempts
            ]
            dead = record.state in (State.DEAD, State.EXPIRED)
            kept_s = rules.keep_dead_s if dead else rules.keep_delivered_s
            row += [attempts, max(record.ended_at, now - kept_s + _STAYS_S)]
        call = ServerCall(self._script("carry"), self._keys.pair(platform), (repr(now), pack(packed), *bodies))
        return int(await self._link.one(call, durable=True))


async def _meant(file: HistoryFile, action: str, ids: Sequence[str]) -> list[Given]:
    """Return those of ``ids`` that the action is about."""
    return [each for each in await file.given(ids) if each.callback.state in MEANT[action]]
