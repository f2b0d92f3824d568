"""Brings callbacks back from the history file to the server, where an operation that names them can act on them.

They stay there for ten minutes; what the operation has not changed by then goes to the file again.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from relay.core.clock import Clock
from relay.core.errors import InHistory
from relay.core.model import State, StoreRules
from relay.store.redis.server.fields import pack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.transfer.rows import RowsToServer
from relay.store.transfer.history_file import Given, HistoryFile

_STAYS_S: Final = 600.0
_TOGETHER: Final = 50
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
        rules: Callable[[], StoreRules],
    ) -> None:
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._rows = rows
        self._script = script
        self._rules = rules

    async def bring(self, file: HistoryFile, action: str, ids: Sequence[str], *, reorder: bool) -> None:
        """Bring back those that ``action`` is about. Raises ``InHistory`` where one would arrive out of order."""
        found = [each for each in await file.given(ids) if each.callback.state in MEANT[action]]
        for each in found:
            if each.overtaken and not reorder and action in _IN_ORDER:
                raise InHistory(each.callback.id, file.host)
        for platform in dict.fromkeys(each.platform for each in found):
            mine = [each for each in found if each.platform == platform]
            await self._tags.name(platform)
            for first in range(0, len(mine), _TOGETHER):
                await self._bring(platform, mine[first : first + _TOGETHER])

    async def _bring(self, platform: str, given: Sequence[Given]) -> None:
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
        await self._link.one(call, durable=True)
