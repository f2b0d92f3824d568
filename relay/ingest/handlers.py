"""The routes of SPEC 3: they accept callbacks and answer what has become of one.

A handler reads the body, turns it into rows (``rows``), waits for their commit (``admission``) and answers 202. Before
the commit it can only end with a ``Refusal``: no 202 goes out without a commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import msgspec
from aiohttp.web import BaseRequest

from relay.core.errors import IdempotencyConflict, NoTarget, StoreError
from relay.core.model import NewCallback
from relay.ingest.admission import Held
from relay.ingest.intake import IngestSettings, Intake
from relay.ingest.one_post import OnePost, StateOf, conflict, replayed_header
from relay.ingest.post_options import PostOptions, read_post_options
from relay.ingest.posts import (
    ROUTED_DEFAULTS,
    Directory,
    DropIn,
    PostDraft,
    check_granted,
    drafts,
    on_line,
)
from relay.ingest.pressure import SMALL_BYTES
from relay.ingest.rows import (
    MAX_LINES,
    NDJSON,
    ROW_BYTES,
    Lines,
    PlatformIntake,
    Turn,
    envelope_rows,
    one_row,
    plain_rows,
)
from relay.ingest.take_back import TakeBack
from relay.ingest.told import IntakeEvents, RowsToReport, report_posts
from relay.ingest.traced import BeginSpan, traced
from relay.views.callback_view import CallbackView
from relay.views.post_answers import AcceptedLines, RoutedLines, RoutedView
from relay.web.body import body_too_large, declared_length, read_body
from relay.web.connection.begun import Begun
from relay.web.connection.remembered import Repeat
from relay.web.dispatch import Routes
from relay.web.guard import Bearer
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

_READ_S = 5.0
_Read = TypeVar("_Read")
_DROP_IN_METHODS = ("POST", "PUT", "PATCH")  # those that carry a body


Describe = Callable[[str], Awaitable[CallbackView | None]]
"""Returns the callback with an id, with wall times and without its payload; None if there is none.

May raise ``StoreError``.
"""


class Handlers:
    """What the ingest listener answers. A reload gives it new settings and another directory while it runs."""

    def __init__(
        self,
        *,
        settings: IngestSettings,
        directory: Directory,
        intake: Intake,
        describe: Describe,
        openapi: Callable[[], bytes],
        events: IntakeEvents,
        expiring: Callable[[float], None],
        begin_span: BeginSpan | None = None,
        state: StateOf | None = None,
    ) -> None:
        self._begin_span = begin_span
        self.configure(settings, directory)
        self._admission = intake.admission
        self._decode = intake.decoder
        self._searching = intake.searching
        self._take_back = TakeBack(intake.inbox, describe)
        self._one_turn = asyncio.Lock()  # first come, first served
        self._describe = describe
        self._one_post = OnePost(
            admission=intake.admission, state=self._state if state is None else state, events=events, expiring=expiring
        )
        self._openapi = openapi
        self._events = events
        self._expiring = expiring

    def configure(self, settings: IngestSettings, directory: Directory) -> None:
        """Use these for all requests from now on."""
        self._bearer = Bearer(settings.token, settings.tokens)
        self._max_body = settings.max_body
        self._max_bulk = settings.max_bulk
        self._body_timeout_s = settings.body_timeout_s
        self._directory = directory

    def add_to(self, routes: Routes) -> None:
        """Serve the paths of SPEC 3 and the drop-in paths of platforms."""
        at_once = self._begin_span is None  # a span holds in a task of its own
        know = self.know if at_once else None
        routes.add("POST", "/v1/platforms/{platform}/callbacks", traced(self.accept, self._begin_span), know)
        routes.add("POST", "/v1/callbacks", traced(self.accept_routed, self._begin_span))
        routes.add("GET", "/v1/callbacks/{id}", self.show)
        self._take_back.add_to(routes, bearer=self._bearer, directory=self._directory)
        routes.add("GET", "/openapi.json", self.openapi)
        for drop_in in self._directory.drop_ins:
            accept = traced(partial(self.accept_at, drop_in), self._begin_span)
            know_at = partial(self.know_at, drop_in) if at_once else None
            for method in _DROP_IN_METHODS:
                routes.add(method, drop_in.path, accept, know_at)

    async def accept(self, request: BaseRequest, values: Mapping[str, str]) -> Response:
        """``POST /v1/platforms/{platform}/callbacks``: one callback, or many as NDJSON."""
        check_granted(self._bearer.check(request), (values["platform"],))
        platform = self._directory.platform(values["platform"])
        headers = request.headers
        content_type = headers.get("Content-Type")
        bulk = _is_bulk(content_type)
        options = read_post_options(headers, platform)
        enveloped = _enveloped(headers.get("Relay-Envelope"), bulk=bulk)
        held = self._admission.enter(declared_length(request), bulk=bulk, searches=platform.searches)
        try:
            parts = await self._read(request, held, bulk=bulk)
            if not bulk:
                row = await self._one_row(parts, platform, options, content_type, held)
                return await self._one_post.commit(row, held)
            if enveloped:
                read = partial(envelope_rows, platform=platform, options=options, max_body=self._max_body)
            else:
                read = partial(plain_rows, platform=platform, options=options, max_body=self._max_body)
            return await self._accept_many(Lines(parts, self._max_body), read, platform, held)
        finally:
            if not held.handed_over:
                held.release()

    async def accept_at(self, drop_in: DropIn, request: BaseRequest, _values: Mapping[str, str]) -> Response:
        """A drop-in path (``accept:``): any body is one callback, and the answer is the platform's own."""
        platform = drop_in.platform
        check_granted(self._bearer.check(request), (platform.name,))
        content_type = request.headers.get("Content-Type")
        options = read_post_options(request.headers, platform)
        held = self._admission.enter(declared_length(request), bulk=False, searches=platform.searches)
        try:
            parts = await self._read(request, held, bulk=False)
            row = await self._one_row(parts, platform, options, content_type, held)
            return await self._one_post.commit(row, held, drop_in)
        finally:
            if not held.handed_over:
                held.release()

    def know(self, request: BaseRequest, values: Mapping[str, str]) -> Repeat | None:
        """Return what ``accept`` does with the posts of one callback that have the head of this request."""
        check_granted(self._bearer.check(request), (values["platform"],))
        platform = self._directory.platform(values["platform"])
        if _is_bulk(request.headers.get("Content-Type")):
            return None
        _enveloped(request.headers.get("Relay-Envelope"), bulk=False)
        return self._know(request, platform)

    def know_at(self, drop_in: DropIn, request: BaseRequest, _values: Mapping[str, str]) -> Repeat | None:
        """Return what ``accept_at`` does with posts that have the head of this request."""
        check_granted(self._bearer.check(request), (drop_in.platform.name,))
        return self._know(request, drop_in.platform, drop_in)

    def _know(self, request: BaseRequest, platform: PlatformIntake, drop_in: DropIn | None = None) -> Repeat | None:
        headers = request.headers
        if "Content-Encoding" in headers or "Relay-Not-Before" in headers:
            return None  # the first is decoded beside the loop, the second means another moment each time
        options = read_post_options(headers, platform)._replace(idempotency_key=None)
        return partial(self._repeat, platform, options, headers.get("Content-Type"), drop_in)

    def _repeat(
        self,
        platform: PlatformIntake,
        options: PostOptions,
        content_type: str | None,
        drop_in: DropIn | None,
        body: bytes,
        idempotency_key: str | None,
    ) -> Begun | None:
        size = len(body)
        if platform.searches and size > SMALL_BYTES:
            return None
        if size > self._max_body:
            raise body_too_large(self._max_body)
        if idempotency_key is not None:
            options = options._replace(idempotency_key=idempotency_key)
        held = self._admission.enter(size, bulk=False, searches=platform.searches)
        try:
            held.complete(size)
            return self._one_post.begin(one_row(body, platform, options, content_type), held, drop_in)
        finally:
            if not held.handed_over:
                held.release()

    async def _read(self, request: BaseRequest, held: Held, *, bulk: bool) -> list[bytes]:
        return await read_body(
            request,
            limit=self._max_bulk if bulk else self._max_body,
            timeout_s=self._body_timeout_s,
            decode=self._decode,
            reserve=held,
        )

    async def _one_row(
        self, parts: list[bytes], platform: PlatformIntake, options: PostOptions, content_type: str | None, held: Held
    ) -> NewCallback:
        body = b"".join(parts)
        if not platform.searches or len(body) <= SMALL_BYTES:
            return one_row(body, platform, options, content_type)
        return await self._searching.run(partial(one_row, body, platform, options, content_type), held, len(body))

    async def _turn(self, read: Callable[[Turn], _Read], turn: Turn, held: Held, *, searches: bool) -> _Read:
        """Read some lines of a request, then let others run: in a round of the loop, one request has its turn."""
        if searches and turn.size > SMALL_BYTES:
            return await self._searching.run(partial(read, turn), held, turn.size)
        async with self._one_turn:
            found = read(turn)
            await asyncio.sleep(0)
        return found

    async def _accept_many(
        self, lines: Lines, read: Callable[[Turn], list[NewCallback]], platform: PlatformIntake, held: Held
    ) -> Response:
        rows: list[NewCallback] = []
        held.weigh(lines.count)
        for turn in lines.turns():
            part = await self._turn(read, turn, held, searches=platform.searches)
            held.grow(len(part) * ROW_BYTES)
            rows += part
        if not rows:
            if platform.needs_json:
                raise Refusal("invalid_json", "the body has no lines")
            return Response(202, b'{"accepted":0,"duplicates":0,"ids":[]}')
        told = RowsToReport(rows)
        commit = self._admission.commit(rows, held)
        del rows  # the store frees them as it packs them
        try:
            accepted = await commit
        except IdempotencyConflict as other:
            raise conflict(lines.number(other.index)) from None
        told.report(accepted, self._events, self._expiring)
        duplicates = len(accepted.duplicates)
        count = len(accepted.ids) - duplicates
        body = msgspec.json.encode(AcceptedLines(count, duplicates, accepted.ids))
        return Response(202, body, headers=replayed_header(count == 0))

    async def accept_routed(self, request: BaseRequest, _values: Mapping[str, str]) -> Response:
        """``POST /v1/callbacks``: the routes name the platforms; one commit for all of them."""
        granted = self._bearer.check(request)
        headers = request.headers
        content_type = headers.get("Content-Type")
        bulk = _is_bulk(content_type)
        options = read_post_options(headers, ROUTED_DEFAULTS)
        enveloped = _enveloped(headers.get("Relay-Envelope"), bulk=bulk)
        directory = self._directory
        held = self._admission.enter(declared_length(request), bulk=bulk, searches=directory.searches)
        try:
            parts = await self._read(request, held, bulk=bulk)
            if bulk:
                read = partial(
                    drafts,
                    directory=directory,
                    options=options,
                    max_body=self._max_body,
                    enveloped=enveloped,
                    granted=granted,
                )
                lines = Lines(parts, self._max_body)
                return await self._route_many(lines, read, held, searches=directory.searches)
            body = b"".join(parts)
            draft = partial(directory.draft, body, options, content_type)
            beside = directory.searches and len(body) > SMALL_BYTES
            made = await self._searching.run(draft, held, len(body)) if beside else draft()
            check_granted(granted, made.platforms)
            return await self._route_one(made, held)
        finally:
            if not held.handed_over:
                held.release()

    async def _route_one(self, draft: PostDraft, held: Held) -> Response:
        try:
            accepted = await self._admission.commit_posts((draft.post,), held)
        except IdempotencyConflict:
            raise conflict() from None
        except NoTarget:
            assert draft.refusal is not None
            raise draft.refusal from None
        report_posts((draft.post,), accepted, self._events, self._expiring)
        return Response(
            202, msgspec.json.encode(RoutedView(accepted.ids[0])), headers=replayed_header(len(accepted.duplicates) > 0)
        )

    async def _route_many(
        self, lines: Lines, read: Callable[[Turn], list[PostDraft]], held: Held, *, searches: bool
    ) -> Response:
        found: list[PostDraft] = []
        count = 0
        held.weigh(lines.count)
        for turn in lines.turns():
            part = await self._turn(read, turn, held, searches=searches)
            rows = sum(len(draft.post.rows) for draft in part)
            count += rows
            if count > MAX_LINES:
                raise Refusal("too_large", f"it makes more than {MAX_LINES} callbacks; send it in parts")
            held.grow(rows * ROW_BYTES)
            found += part
        held.weigh(count)
        posts = [draft.post for draft in found]
        try:
            accepted = await self._admission.commit_posts(posts, held)
        except IdempotencyConflict as other:
            raise conflict(lines.number(other.index)) from None
        except NoTarget as nowhere:
            refusal = found[nowhere.index].refusal
            assert refusal is not None
            raise on_line(lines.number(nowhere.index), refusal) from None
        count, duplicates = report_posts(posts, accepted, self._events, self._expiring)
        body = msgspec.json.encode(RoutedLines(count, duplicates, accepted.ids))
        return Response(202, body, headers=replayed_header(count == 0 and duplicates > 0))

    async def openapi(self, request: BaseRequest, _values: Mapping[str, str]) -> Response:
        """``GET /openapi.json``: the routes of both listeners."""
        self._bearer.check(request)
        return Response(200, await asyncio.to_thread(self._openapi), headers={"Cache-Control": "no-store"})

    async def show(self, request: BaseRequest, values: Mapping[str, str]) -> Response:
        """``GET /v1/callbacks/{id}``: state, times, attempts and why it waits, never the payload."""
        granted = self._bearer.check(request)
        found = await self._read_back(values["id"])
        if found is None or (granted is not None and found.platform not in granted):
            raise Refusal(
                "unknown_callback", "no callback has this id; one that ended is kept as long as `store.keep` says"
            )
        return json_answer(found)

    async def _state(self, callback_id: str) -> str | None:
        found = await self._read_back(callback_id)
        return None if found is None else found.state

    async def _read_back(self, callback_id: str) -> CallbackView | None:
        try:
            async with asyncio.timeout(_READ_S):
                return await self._describe(callback_id)
        except (StoreError, TimeoutError) as error:
            raise Refusal("store_failed", "the store cannot be read now") from error


def _is_bulk(content_type: str | None) -> bool:
    return content_type is not None and content_type.partition(";")[0].strip().lower() == NDJSON


def _enveloped(value: str | None, *, bulk: bool) -> bool:
    if value is None:
        return False
    if not bulk:
        # Without this refusal the whole envelope would reach the platform as the payload.
        raise Refusal("invalid_header", f"Relay-Envelope goes with Content-Type {NDJSON} only", header="Relay-Envelope")
    if value.strip() != "1":
        raise Refusal("invalid_header", "Relay-Envelope must be 1", header="Relay-Envelope")
    return True
