"""The routes of SPEC 3: take callbacks in, tell how one stands.

A handler reads the body, turns it into rows (``rows``), waits for their commit (``admission``) and answers 202. Every
way out before the commit is a ``Refusal``; there is no 202 that does not follow a commit.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp.web import BaseRequest

from relay.core.errors import IdempotencyConflict, StoreError
from relay.core.model import NewCallback
from relay.ingest.admission import Admission, Held
from relay.ingest.rows import (
    NDJSON,
    ROW_BYTES,
    PlatformIntake,
    envelope_rows,
    line_number,
    lines_of,
    one_row,
    plain_rows,
    read_wishes,
)
from relay.store.base import Ledger
from relay.telemetry.events import Events
from relay.web.answer import Answer, json_answer
from relay.web.body import Decode, read_body
from relay.web.guard import Bearer
from relay.web.problem import Refusal
from relay.web.router import Routes

_READ_S = 5.0


class Handlers:
    """What the ingest listener answers. Its public attributes may be replaced at any time: a reload does."""

    def __init__(
        self,
        *,
        bearer: Bearer,
        platforms: Mapping[str, PlatformIntake],
        admission: Admission,
        ledger: Ledger,
        events: Events,
        decode: Decode,
        duration: Callable[[str], float],
        max_body: int,
        max_bulk: int,
        body_timeout_s: float,
        expiring: Callable[[float], None],
    ) -> None:
        self.bearer = bearer
        self.platforms = platforms
        self.max_body = max_body
        self.max_bulk = max_bulk
        self._admission = admission
        self._ledger = ledger
        self._events = events
        self._decode = decode
        self._duration = duration
        self.body_timeout_s = body_timeout_s
        self._expiring = expiring

    def add_to(self, routes: Routes) -> None:
        """Serve the paths of SPEC 3."""
        routes.add("POST", "/v1/platforms/{platform}/callbacks", self.accept)
        routes.add("POST", "/v1/callbacks", self.accept_routed)
        routes.add("GET", "/v1/callbacks/{id}", self.show)

    async def accept(self, request: BaseRequest, values: Mapping[str, str]) -> Answer:
        """``POST /v1/platforms/{platform}/callbacks``: one callback, or many as NDJSON."""
        self.bearer.check(request)
        platform = self.platforms.get(values["platform"])
        if platform is None:
            raise Refusal(
                "unknown_platform", "no platform of this name is configured; the names are under `platforms:`"
            )
        headers = request.headers
        content_type = headers.get("Content-Type")
        bulk = content_type is not None and content_type.partition(";")[0].strip().lower() == NDJSON
        wishes = read_wishes(headers, platform, self._duration)
        enveloped = _enveloped(headers.get("Relay-Envelope"), bulk=bulk)
        held = Held(self._admission)
        try:
            body = await read_body(
                request,
                limit=self.max_bulk if bulk else self.max_body,
                timeout_s=self.body_timeout_s,
                decode=self._decode,
                grow=held.grow,
            )
            if not bulk:
                return await self._accept_one(one_row(body, platform, wishes, content_type), held)
            lines = lines_of(body)
            if enveloped:
                parts = envelope_rows(lines, platform, wishes, self.max_body, self._duration)
            else:
                parts = plain_rows(lines, platform, wishes, self.max_body)
            return await self._accept_many(parts, lines, platform, held)
        finally:
            if not held.handed_over:
                held.release()

    async def _accept_one(self, row: NewCallback, held: Held) -> Answer:
        try:
            accepted = await self._admission.commit((row,), held)
        except IdempotencyConflict:
            raise Refusal("idempotency_conflict", "send another key, or the same body") from None
        self._expiring(row.expires_s)
        replayed = len(accepted.duplicates)
        self._events.accepted(platform=row.platform, count=1 - replayed, duplicates=replayed)
        self._tell_dead((row,), accepted.duplicates)
        callback_id = accepted.ids[0]
        headers = {"Location": f"/v1/callbacks/{callback_id}"}
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        body = b'{"id":"%b","platform":%b,"state":"%b"}' % (
            callback_id.encode("ascii"),
            msgspec.json.encode(row.platform),
            b"pending" if row.dead_reason is None else b"dead",
        )
        return Answer(202, body, headers=headers)

    async def _accept_many(
        self, parts: Iterable[list[NewCallback]], lines: list[bytes], platform: PlatformIntake, held: Held
    ) -> Answer:
        rows: list[NewCallback] = []
        for part in parts:
            rows += part
            held.grow(len(part) * ROW_BYTES)
            await asyncio.sleep(0)  # other requests get their turn between parts
        if not rows:
            if platform.needs_json:
                raise Refusal("invalid_json", "the body has no lines")
            return Answer(202, b'{"accepted":0,"duplicates":0,"ids":[]}')
        try:
            accepted = await self._admission.commit(rows, held)
        except IdempotencyConflict as conflict:
            number = line_number(lines, conflict.index)
            raise Refusal(
                "idempotency_conflict",
                f"line {number}: its key was used with another body; nothing was accepted",
                line=number,
            ) from None
        self._expiring(min(row.expires_s for row in rows))
        duplicates = len(accepted.duplicates)
        count = len(rows) - duplicates
        self._events.accepted(platform=platform.name, count=count, duplicates=duplicates)
        self._tell_dead(rows, accepted.duplicates)
        body = msgspec.json.encode({"accepted": count, "duplicates": duplicates, "ids": accepted.ids})
        return Answer(202, body, headers={"Idempotent-Replayed": "true"} if count == 0 else None)

    def _tell_dead(self, rows: Sequence[NewCallback], duplicates: Collection[int]) -> None:
        """Report the rows that were dead from the start, by platform and reason."""
        dead = Counter(
            (row.platform, row.dead_reason or "")
            for index, row in enumerate(rows)
            if row.dead_reason is not None and index not in duplicates
        )
        for (platform, reason), count in dead.items():
            self._events.dead(platform=platform, count=count, reason=reason)

    async def accept_routed(self, request: BaseRequest, _values: Mapping[str, str]) -> Answer:
        """``POST /v1/callbacks``: takes no callback, because this configuration has no routes."""
        self.bearer.check(request)
        raise Refusal("no_route", "no `routes:` are configured; post to /v1/platforms/{platform}/callbacks")

    async def show(self, request: BaseRequest, values: Mapping[str, str]) -> Answer:
        """``GET /v1/callbacks/{id}``: state, times and attempts, never the payload."""
        self.bearer.check(request)
        try:
            async with asyncio.timeout(_READ_S):
                found: dict[str, Any] | None = await self._ledger.callback(values["id"])
        except (StoreError, TimeoutError) as error:
            raise Refusal("store_failed", "the store cannot be read now") from error
        if found is None:
            raise Refusal(
                "unknown_callback", "no callback has this id; one that ended is kept as long as `store.keep` says"
            )
        return json_answer({name: value for name, value in found.items() if name != "payload"})


def _enveloped(value: str | None, *, bulk: bool) -> bool:
    if value is None:
        return False
    if not bulk:
        # Taken silently, the envelope itself would reach the platform as the payload.
        raise Refusal("invalid_header", f"Relay-Envelope goes with Content-Type {NDJSON} only", header="Relay-Envelope")
    if value.strip() != "1":
        raise Refusal("invalid_header", "Relay-Envelope must be 1", header="Relay-Envelope")
    return True
