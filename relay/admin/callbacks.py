"""Callbacks and dead letters: lists in pages, one with its attempts and why it waits, and its payload when asked."""

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from relay.admin import filters
from relay.admin.access import Permission
from relay.admin.audit import Audit
from relay.admin.call import Call
from relay.admin.platforms import PlatformRoutes
from relay.admin.times import with_instants
from relay.core.clock import Clock
from relay.core.model import Filter, State
from relay.privacy.masking import masked, revealed
from relay.web.answer import Answer, json_answer
from relay.web.problem import Refusal

_WAITS = ("limit", "pace", "linger", "share", "concurrency")  # core.model.WaitUntil's reasons, but for its own


class Callbacks(Protocol):
    """The part of a store that lists callbacks."""

    def callback(self, callback_id: str, *, payload: bool = False) -> Awaitable[Mapping[str, Any] | None]:
        """Return one callback, or None."""
        ...

    def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> Awaitable[tuple[list[dict[str, Any]], str | None]]:
        """Return one page and the next cursor. Raises ``ValueError`` for a cursor it did not give out."""
        ...


class CallbackRoutes:
    """The routes about callbacks."""

    def __init__(self, *, callbacks: Callbacks, platforms: PlatformRoutes, audit: Audit, clock: Clock) -> None:
        self._callbacks = callbacks
        self._platforms = platforms
        self._audit = audit
        self._clock = clock

    async def callbacks(self, call: Call) -> Answer:
        """GET /v1/callbacks."""
        return await self._page(call, dict(call.query))

    async def dead_letters(self, call: Call) -> Answer:
        """GET /v1/dead-letters."""
        query = dict(call.query)
        if query.setdefault("state", State.DEAD.word) != State.DEAD.word:
            raise filters.InvalidFilter("state", "dead letters are in state 'dead'; use /v1/callbacks for other states")
        return await self._page(call, query)

    async def one(self, call: Call) -> Answer:
        """GET /v1/callbacks/{id}."""
        wants_payload = call.query.get("payload", "0") not in ("", "0", "false")
        found = await self._callbacks.callback(call.params["id"], payload=wants_payload)
        if found is None:
            raise unknown_callback(call.params["id"])
        view = callback_view(found)
        now = self._clock.now()
        if view["state"] == State.PENDING.word:
            waiting = waits_for(found, self._platforms.live(found["platform"]), now)
            view["waiting"] = with_instants(waiting)
        if wants_payload:
            reveal = call.who.may(Permission.REVEAL)
            await self._audit.record(call.who, "payload.reveal" if reveal else "payload.view_masked", call.params["id"])
            shown = revealed(found["payload"] or b"") if reveal else masked(found["payload"] or b"")
            view |= {"payload": shown.payload, "payload_form": shown.form, "payload_bytes": shown.payload_bytes}
        return json_answer(view)

    async def _page(self, call: Call, query: dict[str, str]) -> Answer:
        cursor = query.pop("cursor", None)
        limit = filters.page_size(query.pop("limit", None))
        wanted = filters.parse(query, now=self._clock.now())
        await self._platforms.check_known(wanted.platform)
        try:
            items, after = await self._callbacks.callbacks(wanted, cursor=cursor, limit=limit)
        except (ValueError, OverflowError) as error:
            raise Refusal(
                "invalid_cursor", "this cursor was not given out by this list; start again without one"
            ) from error
        return json_answer({"items": [callback_view(item) for item in items], "next": after})


def callback_view(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a store's record of a callback as answers carry it, without its payload."""
    view: dict[str, Any] = with_instants({key: value for key, value in found.items() if key != "payload"})
    state = view.get("state")
    if isinstance(state, State):
        view["state"] = state.word
    return view


def waits_for(found: Mapping[str, Any], live: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return why a pending callback is not sent yet, and until when where that is known."""
    if found.get("in_flight"):
        return {"for": "answer", "until": None}
    if found.get("held"):
        return {"for": "confirmation", "until": None}
    if live.get("paused"):
        return {"for": "paused", "until": None}
    if found.get("behind"):
        return {"for": "earlier callback of its key", "until": None}
    if live.get("broken"):
        return {"for": "breaker", "until": live.get("probe_at")}
    if (live.get("throttled_until") or 0) > now:
        return {"for": "throttled", "until": live["throttled_until"]}
    for stop in live.get("stopped_groups", ()):
        if stop["group"] == found.get("group") and stop["until"] > now:
            return {"for": "throttled", "until": stop["until"]}
    if (found.get("due_at") or 0) > now:
        return {"for": "retry", "until": found["due_at"]}
    if live.get("waits_for") in _WAITS:  # what its whole platform waits for
        return {"for": live["waits_for"], "until": live.get("waits_until")}
    return {"for": "slot", "until": None}


def unknown_callback(callback_id: str) -> Refusal:
    """Return the problem of an id that no callback here has."""
    return Refusal("unknown_callback", f"no callback '{callback_id[:40]}' here; it may have been pruned (store.keep)")
