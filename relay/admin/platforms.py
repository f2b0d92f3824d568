"""Platforms as the operator sees them: one state with its reason, the queue, the quotas and when it will be drained.

What is queued comes from the store, what is going on (paused, breaker, cooldown) from delivery through
``PlatformControl``.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from heapq import nlargest
from typing import Any, Protocol

from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.filters import did_you_mean
from relay.admin.times import instant, with_instants
from relay.core.clock import Clock
from relay.web.answer import Answer, json_answer
from relay.web.problem import Refusal

_GROUPS_SHOWN = 10
FINAL_STATES = ("delivered", "dead", "expired", "superseded")


class PlatformControl(Protocol):
    """What delivery tells and lets operators do."""

    def views(self) -> Mapping[str, Mapping[str, Any]]:
        """Return per configured platform what goes on there; times on the relay clock, 0 or None for none.

        ``paused pause_reason broken breaker_reason probe_at throttled_until throttle_reason limited_until waits_for
        waits_until in_flight last_error``, and ``stopped_groups`` with ``group reason until`` each; what is missing is
        not the case.
        """
        ...

    async def pause(self, name: str, reason: str) -> None:
        """Send nothing more to the platform until resumed; survives a restart."""
        ...

    async def resume(self, name: str) -> None:
        """End a pause."""
        ...

    async def flush(self, name: str) -> None:
        """Send what is queued without waiting for pace, linger or retry times; limits still hold."""
        ...


class Queues(Protocol):
    """The part of a store that knows the queues."""

    def platform_status(self) -> Awaitable[Mapping[str, Mapping[str, Any]]]:
        """Return the queue of each platform."""
        ...

    def totals(self) -> Awaitable[Mapping[str, Mapping[str, int]]]:
        """Return the totals of each platform."""
        ...


def ledger(totals: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return the ledger: what was accepted and where all of it is, in total and per platform."""
    sums = dict.fromkeys(("accepted", *FINAL_STATES, "pending"), 0)
    platforms = {}
    for name, counts in sorted(totals.items()):
        platforms[name] = _accounted({word: counts.get(word, 0) for word in sums})
        for word in sums:
            sums[word] += counts.get(word, 0)
    return {"total": _accounted(sums), "platforms": platforms}


def platform_view(
    name: str, *, queue: Mapping[str, Any], live: Mapping[str, Any], batch_items: int | None, now: float
) -> dict[str, Any]:
    """Return all there is to say about one platform."""
    quotas = [dict(quota) for quota in queue.get("quotas", ())]
    state, reason, until = _state(queue, live, now)
    oldest_at = queue.get("oldest_due_at")
    waiting = queue.get("pending", 0) - queue.get("held", 0)
    stopped = state in ("paused", "broken")
    return {
        "name": name,
        "state": state,
        "reason": reason,
        "until": instant(until),
        "stopped_groups": _stopped_groups(live),
        "pending": queue.get("pending", 0),
        "in_flight": queue.get("in_flight", 0),
        "requests_in_flight": live.get("in_flight", 0),
        "held": queue.get("held", 0),
        "oldest_due_seconds": None if oldest_at is None or oldest_at > now else round(now - oldest_at, 3),
        "retrying": queue.get("retrying"),
        "dead": queue.get("dead", 0),
        "quotas": with_instants(quotas),
        "learned_limit": None,
        "drain_eta_seconds": None if stopped else drain_eta_s(waiting, quotas, batch_items),
        "last_error": with_instants(live.get("last_error") or queue.get("last_error")),
    }


def _stopped_groups(live: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many groups are stopped on their own, and those that are stopped longest."""
    stopped = live.get("stopped_groups", ())
    first = nlargest(_GROUPS_SHOWN, stopped, key=lambda group: group["until"])
    return {"count": len(stopped), "items": [{**group, "until": instant(group["until"])} for group in first]}


def drain_eta_s(waiting: int, quotas: list[dict[str, Any]], batch_items: int | None) -> float | None:
    """Return in how many seconds ``waiting`` callbacks can have been sent when every batch is full, or None.

    Each window lets its free slots go at once and ``limit`` requests per ``window_s`` after that; the slowest decides.
    """
    if waiting <= 0:
        return 0.0
    if not quotas or not batch_items:
        return None  # without a quota the platform's own speed decides, which nobody has promised
    requests = math.ceil(waiting / batch_items)
    slowest_s: float = max(
        max(0, requests - max(0, quota["limit"] - quota["used"])) * quota["window_s"] / quota["limit"]
        for quota in quotas
    )
    return round(slowest_s, 1)


class PlatformRoutes:
    """The routes about platforms and the ledger."""

    def __init__(
        self,
        *,
        queues: Queues,
        control: PlatformControl,
        audit: Audit,
        clock: Clock,
        batch_items: Callable[[], Mapping[str, int]],
    ) -> None:
        self._queues = queues
        self._control = control
        self._audit = audit
        self._clock = clock
        self._batch_items = batch_items

    async def list(self, call: Call) -> Answer:
        """GET /v1/platforms."""
        live = self._control.views()
        queues = await self._queues.platform_status()
        # Configured ones in the file's order; then what only the store still knows (removed, or the unrouted).
        names = [*live, *sorted(set(queues) - set(live))]
        return json_answer({"items": [self._view(name, queues, live) for name in names], "next": None})

    async def one(self, call: Call) -> Answer:
        """GET /v1/platforms/{platform}."""
        name = call.params["platform"]
        live = self._control.views()
        queues = await self._queues.platform_status()
        if name not in live and name not in queues:
            raise unknown_platform(name, [*live, *queues])
        return json_answer(self._view(name, queues, live))

    async def ledger(self, call: Call) -> Answer:
        """GET /v1/ledger."""
        totals = await self._queues.totals()
        return json_answer(ledger({**{name: {} for name in self._control.views()}, **totals}))

    async def pause(self, call: Call) -> Answer:
        """POST /v1/platforms/{platform}/pause."""
        name, reason = self._change(call)
        await self._audit.record(call.who, "platform.pause", name, reason=reason)
        await self._control.pause(name, reason)
        return await self.one(call)

    async def resume(self, call: Call) -> Answer:
        """POST /v1/platforms/{platform}/resume."""
        name, reason = self._change(call)
        await self._audit.record(call.who, "platform.resume", name, reason=reason)
        await self._control.resume(name)
        return await self.one(call)

    async def flush(self, call: Call) -> Answer:
        """POST /v1/platforms/{platform}/flush."""
        name, reason = self._change(call)
        await self._audit.record(call.who, "platform.flush", name, reason=reason)
        await self._control.flush(name)
        return await self.one(call)

    async def check_known(self, name: str | None) -> None:
        """Raise 404 ``unknown_platform`` for a platform that was never configured here nor holds anything."""
        if name is None or name in (live := self._control.views()):
            return
        known = await self._queues.totals()
        if name not in known:
            raise unknown_platform(name, [*live, *known])

    def live(self, name: str) -> Mapping[str, Any]:
        """Return the live facts of a platform, none when it is not configured."""
        return self._control.views().get(name, {})

    def _view(
        self, name: str, queues: Mapping[str, Mapping[str, Any]], live: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        return platform_view(
            name,
            queue=queues.get(name, {}),
            live=live.get(name, {}),
            batch_items=self._batch_items().get(name),
            now=self._clock.now(),
        )

    def _change(self, call: Call) -> tuple[str, str]:
        name = call.params["platform"]
        live = self._control.views()
        if name not in live:
            raise unknown_platform(name, live)
        body = object_body(call.body, allowed=("reason",))
        reason = body.get("reason") or ""
        if not isinstance(reason, str):
            raise Refusal("invalid_request", "'reason' must be a string")
        return name, reason


def unknown_platform(name: str, known: "Mapping[str, Any] | list[str]") -> Refusal:
    """Return the problem of a platform nobody configured."""
    return Refusal("unknown_platform", f"no platform '{name[:80]}'{did_you_mean(name, dict.fromkeys(known))}")


def _accounted(counts: dict[str, int]) -> dict[str, int]:
    found = counts["pending"] + sum(counts[word] for word in FINAL_STATES)
    return {**counts, "unaccounted": counts["accepted"] - found}


def _state(queue: Mapping[str, Any], live: Mapping[str, Any], now: float) -> tuple[str, str, float | None]:
    """Return the state that explains most (SPEC 4's order), its reason and until when."""
    if live.get("paused"):
        return "paused", live.get("pause_reason") or "paused by an operator", None
    if live.get("broken"):
        return "broken", live.get("breaker_reason") or "the breaker is open", live.get("probe_at")
    if (live.get("throttled_until") or 0) > now:
        return "throttled", live.get("throttle_reason") or "the platform asked to wait", live["throttled_until"]
    for quota in queue.get("quotas", ()):
        if quota["used"] >= quota["limit"] and queue.get("pending", 0):
            used = f"{quota['used']} of {quota['limit']} requests in {quota['window_s']:g}s used ({quota['quota']})"
            return "limited", used, quota.get("free_at")
    if (live.get("limited_until") or 0) > now:
        return "limited", "waiting for a slot", live["limited_until"]
    return "ok", "", None
