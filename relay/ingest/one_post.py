"""Posts of one callback: the commit, what is reported of it, and the answer. It works with a task and without one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec

from relay.core.errors import IdempotencyConflict
from relay.core.model import Accepted, NewCallback
from relay.ingest.admission import Admission, Held
from relay.ingest.posts import DropIn
from relay.ingest.told import IntakeEvents, dead_rows, report_dead
from relay.web.connection.begun import Begun
from relay.web.refusal import Refusal
from relay.web.response import Response

_SOON_S = 120.0  # expiry looks once a minute by itself; only a callback that expires sooner needs a nudge

StateOf = Callable[[str], Awaitable[str | None]]
"""Returns the state of a callback; None if there is none. Raises ``Refusal``."""


class OnePost:
    """Commits the callback of a post and answers the post."""

    def __init__(
        self,
        *,
        admission: Admission,
        state: StateOf,
        events: IntakeEvents,
        expiring: Callable[[float], None],
    ) -> None:
        self._admission = admission
        self._state = state
        self._events = events
        self._expiring = expiring

    def begin(self, row: NewCallback, held: Held, drop_in: DropIn | None = None) -> Begun:
        """Begin the commit; the answer is that of ``drop_in`` where there is one. Raises ``Refusal``."""
        stored = self._admission.commit((row,), held)
        return Begun(stored, partial(self._answer, stored, row, drop_in))

    async def commit(self, row: NewCallback, held: Held, drop_in: DropIn | None = None) -> Response:
        """Commit it and return the answer. Raises ``Refusal``."""
        begun = self.begin(row, held, drop_in)
        await asyncio.wait((begun.done,))
        answer = begun.answer()
        return answer if isinstance(answer, Response) else await answer

    def _answer(
        self, stored: "asyncio.Future[Accepted]", row: NewCallback, drop_in: DropIn | None
    ) -> Response | Awaitable[Response]:
        try:
            accepted = stored.result()
        except IdempotencyConflict:
            raise conflict() from None
        if row.expires_s < _SOON_S:
            self._expiring(row.expires_s)
        replayed = len(accepted.duplicates)
        self._events.accepted(platform=row.platform, count=1 - replayed, duplicates=replayed)
        if row.dead_reason is not None:
            report_dead(self._events, dead_rows((row,)), accepted.duplicates)
        if drop_in is not None:
            headers = replayed_header(replayed > 0)
            return Response(drop_in.status, drop_in.body, content_type=drop_in.content_type, headers=headers)
        if replayed:
            return self._answer_repeat(row.platform, accepted.ids[0])
        return _answer(row.platform, accepted.ids[0], b"pending" if row.dead_reason is None else b"dead")

    async def _answer_repeat(self, platform: str, callback_id: str) -> Response:
        """Answer a post of a callback that was accepted earlier: it may have ended since."""
        state = await self._state(callback_id)
        if state is None:
            raise Refusal("store_failed", "the callback ended and was removed at this moment; send it again")
        return _answer(platform, callback_id, state.encode("ascii"), replayed_header(True))


def _answer(platform: str, callback_id: str, state: bytes, headers: Mapping[str, str] | None = None) -> Response:
    body = b'{"id":"%b","platform":%b,"state":"%b"}' % (
        callback_id.encode("ascii"),
        msgspec.json.encode(platform),
        state,
    )
    return Response(202, body, headers={"Location": f"/v1/callbacks/{callback_id}", **(headers or {})})


def replayed_header(wholly: bool) -> dict[str, str]:
    """Return the header that says that all of a post was accepted earlier."""
    return {"Idempotent-Replayed": "true"} if wholly else {}


def conflict(line: int | None = None) -> Refusal:
    """Return the refusal of a key that came with another body before, in NDJSON with its line."""
    if line is None:
        return Refusal("idempotency_conflict", "send another key, or the same body")
    detail = f"line {line}: its key was used with another body; nothing was accepted"
    return Refusal("idempotency_conflict", detail, line=line)
