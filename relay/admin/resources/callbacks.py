"""Callbacks and dead letters: lists in pages, one with its attempts and why it waits, and its payload when asked."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from msgspec import UNSET
from msgspec.structs import replace

from relay.admin import filters
from relay.admin.audit import Audit
from relay.admin.call import Call
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.as_file import FORMS, Form
from relay.admin.standing.sight import Sight, unknown_callback
from relay.admin.standing.times import WallTimes
from relay.admin.standing.waiting import first_of_key, waits_for
from relay.core.errors import StoreError
from relay.core.model import Filter, State
from relay.core.raw import JsonObject
from relay.views.callback_view import CallbackPage, CallbackView, ListedCallback
from relay.views.moments import instant_text
from relay.views.waiting import FirstOfKeyView, WaitingView
from relay.web.parts import Streamed
from relay.web.response import Response

_EXPORT_PAGE: Final = 100
_MOST_DIGITS: Final = 12
_PAYLOAD = {"1": True, "true": True, "0": False, "false": False}


class Callbacks(Protocol):
    """The part of a store that lists callbacks."""

    def callback(self, callback_id: str, *, payload: bool = False) -> Awaitable[CallbackView | None]:
        """Return one callback, or None."""
        ...

    def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> Awaitable[tuple[list[ListedCallback], str | None]]:
        """Return one page and the next cursor."""
        ...


class CallbackRoutes:
    """The routes about callbacks."""

    def __init__(
        self,
        *,
        callbacks: Callbacks,
        platforms: PlatformRoutes,
        audit: Audit,
        sight: Sight,
        times: WallTimes,
        blocks_on_dead: Callable[[str], bool],
    ) -> None:
        """Wire it. ``blocks_on_dead(platform)``: whether a dead callback there holds up the rest of its key."""
        self._callbacks = callbacks
        self._blocks_on_dead = blocks_on_dead
        self._platforms = platforms
        self._audit = audit
        self._sight = sight
        self._times = times

    async def callbacks(self, call: Call) -> Response:
        """GET /v1/callbacks; with ``format=jsonl`` or ``csv`` all that match, with their payloads."""
        query = dict(call.query)
        form = query.pop("format", "json")
        if form == "json":
            return await self._page(call, query)
        if form not in FORMS:
            raise filters.InvalidFilter("format", f"'format' is '{form[:20]}': there are json, jsonl and csv")
        return await self._exported(call, query, FORMS[form]())

    async def dead_letters(self, call: Call) -> Response:
        """GET /v1/dead-letters."""
        query = dict(call.query)
        if query.setdefault("state", State.DEAD.word) != State.DEAD.word:
            raise filters.InvalidFilter("state", "dead letters are in state 'dead'; use /v1/callbacks for other states")
        return await self._page(call, query)

    async def one(self, call: Call) -> Response:
        """GET /v1/callbacks/{id}."""
        wants_payload = _PAYLOAD.get(call.query.get("payload", "0"))
        if wants_payload is None:
            raise filters.InvalidFilter("payload", "'payload' must be 1 or 0")
        found = await self._callbacks.callback(call.params["id"], payload=wants_payload)
        if found is None:
            raise unknown_callback(call.params["id"])
        view = await self._sight.callback(call.who.view, await self._described(found))
        if wants_payload:
            await self._audit.record(call.who, "payload.view", call.params["id"])
            shown = self._sight.payload(call.who.view, found.payload or b"")
            view.payload, view.payload_form, view.payload_bytes = shown.payload, shown.form, shown.payload_bytes
        return self._times.answer(view)

    async def describe(self, callback_id: str) -> CallbackView | None:
        """Return one callback with wall times and why it waits, without its payload; None when there is none."""
        found = await self._callbacks.callback(callback_id)
        if found is None:
            return None
        return self._times.on_wall(CallbackView, await self._sight.callback(None, await self._described(found)))

    async def _described(self, found: CallbackView) -> CallbackView:
        """Return a callback without its payload, with why it waits."""
        if found.state != State.PENDING.word:
            return replace(found, payload=UNSET)
        return replace(found, payload=UNSET, waiting=await self._waiting(found))

    async def _waiting(self, found: CallbackView) -> WaitingView:
        platform, now = found.platform, self._times.now()
        live = self._platforms.live(platform)
        if found.in_flight or found.held or live.paused:
            return waits_for(found, live, now)
        try:
            quotas = await self._platforms.quotas(platform)
            first = await first_of_key(found, self._callbacks, blocks_on_dead=lambda: self._blocks_on_dead(platform))
        except StoreError as error:  # it was found all the same: it lies in the spool of this host
            return WaitingView(word="store", reason=str(error))
        if first is None:
            return waits_for(found, live, now, quotas=quotas)
        before = FirstOfKeyView(id=first.id, state=first.state, reason=first.reason)
        if first.state == State.PENDING.word:
            whole = await self._callbacks.callback(first.id)  # with its attempts, which lists leave out
            before = replace(before, waiting=waits_for(whole or first, live, now, quotas=quotas))
        return waits_for(found, live, now, before=before)

    async def _page(self, call: Call, query: dict[str, str]) -> Response:
        text, limit = query.pop("cursor", None), filters.page_size(query.pop("limit", None))
        wanted = filters.parse(query, now=self._times.now(), shift_s=self._times.shift_s)
        await self._platforms.check_known(wanted.platform)
        cursor = filters.taken_back(text, query)
        items, after = await self._callbacks.callbacks(wanted, cursor=cursor, limit=limit)
        items = await self._sight.listed(call.who.view, items)
        return self._times.answer(CallbackPage(items, filters.given_out(after, query)))

    async def _exported(self, call: Call, query: dict[str, str], form: Form) -> Response:
        if "cursor" in query:
            raise filters.InvalidFilter("cursor", "an export has no pages: leave 'cursor' out")
        most = _most(query.pop("limit", None))
        wanted = filters.parse(query, now=self._times.now(), shift_s=self._times.shift_s)
        await self._platforms.check_known(wanted.platform)
        await self._audit.record(call.who, "payload.export", wanted.platform or "*", filter=query, format=form.ending)
        lens = self._sight.lens(call.who.view)
        asked = {**query, "key": lens.key(query["key"])} if "key" in query else query
        at = instant_text(self._times.now(), self._times.shift_s)
        about = {"who": call.who.name, "role": call.who.role, "view": call.who.view, "at": at, "filter": asked}
        headers = {"Content-Disposition": f'attachment; filename="callbacks.{form.ending}"'}
        return Streamed(
            self._rows(call.who.view, wanted, form, about, most), content_type=form.content_type, headers=headers
        )

    async def _rows(
        self, view: str | None, wanted: Filter, form: Form, about: JsonObject, most: int | None
    ) -> AsyncIterator[bytes]:
        """Yield an export page by page."""
        yield form.head(about)
        cursor: str | None = None
        left = math.inf if most is None else most
        while left > 0:
            items, cursor = await self._callbacks.callbacks(wanted, cursor=cursor, limit=int(min(left, _EXPORT_PAGE)))
            left -= len(items)
            yield b"".join([form.row(await self._row(view, item)) for item in items])
            if cursor is None:
                return

    async def _row(self, view: str | None, item: ListedCallback) -> JsonObject:
        (shown,) = await self._sight.listed(view, [item])
        found = await self._callbacks.callback(item.id, payload=True)
        payload = None if found is None else found.payload
        seen = self._sight.payload(view, payload) if isinstance(payload, bytes) else None
        row: JsonObject = self._times.told(shown)
        row["payload"], row["payload_form"] = (None, "gone") if seen is None else (seen.payload, seen.form)
        return row


def _most(text: str | None) -> int | None:
    if text is None or (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        return None if text is None else int(text)
    raise filters.InvalidFilter("limit", f"'limit' of an export must be a number of callbacks, not '{text[:20]}'")
