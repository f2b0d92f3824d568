"""Callbacks and dead letters: lists in pages, one with its attempts and why it waits, and its payload when asked."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from relay.admin import filters
from relay.admin.access import Permission
from relay.admin.audit import Audit
from relay.admin.call import Call
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.times import WallTimes
from relay.admin.standing.waiting import first_of_key, waits_for
from relay.core.model import Filter, State
from relay.privacy.masking import masked, revealed
from relay.views.callback_view import CallbackPage, CallbackView, ListedCallback
from relay.views.waiting import FirstOfKeyView, WaitingView
from relay.web.refusal import Refusal
from relay.web.response import Response

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
        times: WallTimes,
        blocks_on_dead: Callable[[str], bool],
    ) -> None:
        """Wire it. ``blocks_on_dead(platform)``: whether a dead callback there holds up the rest of its key."""
        self._callbacks = callbacks
        self._blocks_on_dead = blocks_on_dead
        self._platforms = platforms
        self._audit = audit
        self._times = times

    async def callbacks(self, call: Call) -> Response:
        """GET /v1/callbacks."""
        return await self._page(call, dict(call.query))

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
        view = await self._described(found)
        if wants_payload:
            payload: bytes = found.payload or b""
            reveal = call.who.may(Permission.REVEAL)
            await self._audit.record(call.who, "payload.reveal" if reveal else "payload.view_masked", call.params["id"])
            shown = revealed(payload) if reveal else masked(payload)
            view.payload, view.payload_form, view.payload_bytes = shown.payload, shown.form, shown.payload_bytes
        return self._times.answer(view)

    async def describe(self, callback_id: str) -> CallbackView | None:
        """Return one callback with wall times and why it waits, without its payload; None when there is none."""
        found = await self._callbacks.callback(callback_id)
        return None if found is None else self._times.on_wall(CallbackView, await self._described(found))

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
        quotas = await self._platforms.quotas(platform)
        first = await first_of_key(found, self._callbacks, blocks_on_dead=lambda: self._blocks_on_dead(platform))
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
        return self._times.answer(CallbackPage(items, filters.given_out(after, query)))


def unknown_callback(callback_id: str) -> Refusal:
    """Return the problem of an id that no callback here has."""
    return Refusal("unknown_callback", f"no callback '{callback_id[:40]}' here; it may have been pruned (store.keep)")
