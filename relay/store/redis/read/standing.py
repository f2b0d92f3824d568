"""How platforms stand: their totals, and what they have, do and wait for. One script tells all of it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from relay.core.ids import encode_id
from relay.sealing.codec import NOBODY, Column
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.fields import unpack
from relay.store.redis.server.looks import Looks
from relay.store.redis.server.tags import PlatformTags
from relay.views.ledger import QueueTotals
from relay.views.moments import Instant
from relay.views.queue import ErrorView, QueueFacts


class PlatformStanding(NamedTuple):
    """One platform at one instant."""

    totals: QueueTotals
    facts: QueueFacts


class Standings:
    """Reads how platforms stand."""

    def __init__(self, looks: Looks, tags: PlatformTags, seals: RedisSeals) -> None:
        self._seals = seals
        self._looks = looks
        self._tags = tags
        self._had: set[str] = set()  # what had something to do when last looked at

    async def of(self, configured: Iterable[str] = ()) -> dict[str, PlatformStanding]:
        """Return how each platform stands that is configured or was named by any host, without its slots."""
        names = list(dict.fromkeys((*configured, *self._tags.names())))
        answers = await self._looks.at(names, "standing", busy=self._had)
        found = {name: self._standing(name, answer) for name, answer in answers.items()}
        if self._seals.on:
            for name, each in found.items():
                await self._open(name, each.facts)
        self._had = {name for name, each in found.items() if each.totals.pending}
        return found

    async def _open(self, name: str, facts: QueueFacts) -> None:
        error = facts.last_error
        if error is not None:
            number = await self._seals.data_keys.number_of(name)
            facts.last_error = replace(
                error, excerpt=await self._seals.shown(Column.LAST_ERROR, NOBODY, number, error.excerpt)
            )

    async def totals(self) -> dict[str, QueueTotals]:
        """Return the totals of each platform that accepted anything, each platform's of one instant."""
        return {name: found.totals for name, found in (await self.of()).items() if found.totals.accepted}

    def _standing(self, name: str, answer: Sequence[Any]) -> PlatformStanding:
        *totals, in_flight, error, pending, held, dead, keys_held, oldest = answer
        accepted, delivered, died, expired, superseded = (int(each or 0) for each in totals)
        return PlatformStanding(
            QueueTotals(accepted, delivered, died, expired, superseded, pending),
            QueueFacts(
                accepted=accepted,
                pending=pending,
                held=held,
                keys_held=keys_held,
                in_flight=int(in_flight or 0),
                dead=dead,
                oldest_due_at=None if not oldest else Instant(float(oldest)),
                last_error=None if error is None else _error(error, self._tags.known(name)),
                quotas=[],
            ),
        )


def _error(packed: bytes, tag: int) -> ErrorView:
    at, outcome, status, reason, excerpt, *batch = unpack(packed)
    return ErrorView(
        at=Instant(float(at)),
        outcome=outcome,
        status=status or None,
        reason=reason,
        excerpt=excerpt,
        batch=_batch_id(batch[0], tag) if batch else "",
    )


def _batch_id(kept: Any, tag: int) -> str:
    """Return the id of a batch from its number; of one that was copied from another store the id is kept."""
    return kept if isinstance(kept, str) else "b" + encode_id(kept, tag)
