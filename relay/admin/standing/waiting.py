"""Why a pending callback is not sent yet, until when, and the facts behind that.

The first reason that holds is told, in the order in which they would stop it: a callback whose platform is paused goes
nowhere even when the one before it in its key is delivered.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from relay.admin.standing.limit_orders import full_quota
from relay.core.model import Filter, Rate, State
from relay.core.quotas import quota_group, quota_source

# core.model.WaitUntil's reasons, but for those of an empty queue; "store": a commit failed, it is tried again
_WHOLE_PLATFORM = ("limit", "pace", "linger", "share", "concurrency", "store")
_NOTHING_ELSE_DUE = ("retry", "idle", "", None)
_LONGEST_PACED_S = 300.0  # longer windows pace only when half used (SPEC 6, "When to send")
_SLACK_S = 0.001  # what was accepted in the same commit carries the same time
_PAGE = 1000
_MOST_DEAD = 20  # of one key: more of them are a person's work already
_MOST_PAGES = 5  # the store looks through 200,000 rows for one; an answer must not take longer than a look at that


class Listing(Protocol):
    """The part of a store that knows callbacks."""

    def callback(self, callback_id: str, *, payload: bool = False) -> Awaitable[Mapping[str, Any] | None]:
        """Return one callback, or None."""
        ...

    def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> Awaitable[tuple[list[dict[str, Any]], str | None]]:
        """Return one page, newest first, and the next cursor."""
        ...


def waits_for(
    found: Mapping[str, Any],
    live: Mapping[str, Any],
    now: float,
    *,
    quotas: Iterable[Mapping[str, Any]] = (),
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return ``for`` and ``until`` (relay clock, None where nobody knows), with ``reason``, ``group``, ``limit``,
    ``behind`` or ``removed`` where these say more.

    ``quotas`` are the windows of its platform; ``before`` is the callback of its key that goes first, where one does.
    """
    if found.get("in_flight"):
        return {"for": "answer", "until": None}
    if found.get("held"):
        return _because("confirmation", None, found.get("reason"))
    if live.get("paused"):
        waiting = _because("paused", None, live.get("pause_reason"))
        return {**waiting, "removed": True} if live.get("removed") else waiting
    if before is not None:
        return {"for": "earlier callback of its key", "until": None, "behind": dict(before)}
    if live.get("broken"):
        word = "breaker" if live.get("breaker_open") else "backoff"
        return _because(word, live.get("probe_at"), live.get("breaker_reason"))
    if (live.get("throttled_until") or 0) > now:
        return _because("throttled", live["throttled_until"], live.get("throttle_reason"))
    group = found.get("group") or ""
    for stop in live.get("stopped_groups", ()):
        if stop["group"] == group and stop["until"] > now:
            waiting = _because("throttled", stop["until"], stop.get("reason"))
            return {**waiting, "group": group} if group else waiting
    if (found.get("due_at") or 0) > now:
        return _because("retry", found["due_at"], found.get("reason"))
    unclear = _unclear_attempt(found)
    if unclear is not None and live.get("waits_for") in _NOTHING_ELSE_DUE:
        # Its batch goes again whole, at a time that stands with the batch: as nothing else is due, the platform's next.
        until = live.get("waits_until") if live.get("waits_for") == "retry" else None
        return _because("retry", until, unclear.get("reason"))
    return _for_its_turn(group, live, list(quotas))


def _unclear_attempt(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the last attempt when the platform may have applied it: then the same batch is sent again."""
    attempts = found.get("attempts")  # lists of callbacks only count them
    last = attempts[-1] if isinstance(attempts, list) and attempts else None
    return last if last is not None and last.get("ambiguous") else None


def _for_its_turn(group: str, live: Mapping[str, Any], quotas: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what something that is due waits for: its platform's wait, or its group's own limit."""
    learned = live.get("learned_limit")
    full = full_quota(quotas, group=group)
    word = live.get("waits_for")
    if full is not None and (word == "limit" or quota_group(full["quota"])):
        waiting = {"for": "limit", "until": full.get("free_at"), "limit": _limit(full, learned)}
        return {**waiting, "group": group} if quota_group(full["quota"]) else waiting
    if word not in _WHOLE_PLATFORM:
        return {"for": "slot", "until": None}
    waiting = {"for": word, "until": live.get("waits_until")}
    if word == "pace":
        short = [quota for quota in quotas if quota["window_s"] <= _LONGEST_PACED_S]
        slowest = max(short or quotas, key=lambda quota: float(quota["window_s"]) / quota["limit"], default=None)
        return waiting if slowest is None else {**waiting, "limit": _limit(slowest, learned)}
    if word == "concurrency" and learned and learned.get("trying"):
        return {**waiting, "reason": f"one request at a time while {learned['trying']} is tried"}
    return waiting


def _limit(quota: Mapping[str, Any], learned: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a window as the reason of a wait, with how sure it is where that is known.

    ``tried``: it is a step beyond what is believed, to see whether the platform allows that.
    """
    name, rate = quota["quota"], str(Rate(quota["limit"], quota["window_s"]))
    source = quota_source(name)
    told = learned if learned and source == learned.get("source") == "learned" else {}
    if quota_group(name) != told.get("group", ""):
        told = {}  # another group's is told of
    tried = bool(told) and rate == told.get("trying")
    return {
        "rate": rate,
        "source": source,
        "quota": name,
        "used": min(quota["used"], quota["limit"]),
        "confidence": None if tried else told.get("confidence"),
        "tried": tried,
    }


def _because(word: str, until: float | None, reason: object) -> dict[str, Any]:
    waiting: dict[str, Any] = {"for": word, "until": until}
    return {**waiting, "reason": str(reason)} if reason else waiting


async def first_of_key(
    found: Mapping[str, Any], listing: Listing, *, blocks_on_dead: Callable[[], bool]
) -> Mapping[str, Any] | None:
    """Return the callback of the same key that must end before ``found`` may go, or None.

    That is the oldest pending one (of more than can be looked through, the oldest of those), or a dead one where those
    hold up their key (``on_dead: block``).
    """
    if not found.get("key"):
        return None
    key = {"platform": found["platform"], "key": found["key"], "until": found["accepted_at"] + _SLACK_S}
    earlier = await _earlier_pending(Filter(**key, state=State.PENDING.word), found["id"], listing)
    if earlier is not None:
        return earlier
    dead, _ = await listing.callbacks(Filter(**key, state=State.DEAD.word), cursor=None, limit=_MOST_DEAD)
    # What was dropped, or buried before it ever stood in line, holds up nobody.
    tried = [each for each in dead if each["attempts"]]
    if tried and blocks_on_dead():
        for each in tried:
            whole = await listing.callback(each["id"], payload=True)
            if whole is not None and whole["payload"] is not None:
                return each
    return None


async def _earlier_pending(wanted: Filter, callback_id: str, listing: Listing) -> Mapping[str, Any] | None:
    """Return the last one of the list that comes after the callback itself: lists are newest first."""
    cursor, earlier, passed = None, None, False
    for _ in range(_MOST_PAGES):
        page, cursor = await listing.callbacks(wanted, cursor=cursor, limit=_PAGE)
        for each in page:
            if passed:
                earlier = each
            passed = passed or each["id"] == callback_id
        if cursor is None:
            break
    return earlier
