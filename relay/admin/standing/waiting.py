"""Why a pending callback is not sent yet, until when, and the facts behind that.

The first reason that holds is told, in the order in which they would stop it: a callback whose platform is paused goes
nowhere even when the one before it in its key is delivered.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from relay.admin.standing.limit_orders import full_quota
from relay.core.model import Filter, State, window_text
from relay.core.quotas import quota_group, quota_source
from relay.views.callback_view import AttemptView, CallbackFacts, CallbackView, ListedCallback
from relay.views.limit_view import LimitView
from relay.views.live import LiveFacts
from relay.views.moments import moment
from relay.views.queue import QuotaUse
from relay.views.waiting import FirstOfKeyView, HoldingLimitView, WaitingView

# core.model.WaitUntil's reasons, but for those of an empty queue; "store": a commit failed, it is tried again
_WHOLE_PLATFORM = ("limit", "pace", "linger", "share", "concurrency", "store", "owner")
_NOTHING_ELSE_DUE = ("retry", "idle", "")
_LONGEST_PACED_S = 300.0  # longer windows pace only when half used (SPEC 6, "When to send")
_SLACK_S = 0.001  # what was accepted in the same commit carries the same time
_PAGE = 1000
_MOST_DEAD = 20  # of one key: more of them are a person's work already
_MOST_PAGES = 5  # the store looks through 200,000 rows for one; an answer must not take longer than a look at that


class Listing(Protocol):
    """The part of a store that knows callbacks."""

    def callback(self, callback_id: str) -> Awaitable[CallbackView | None]:
        """Return one callback, or None."""
        ...

    def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> Awaitable[tuple[Sequence[ListedCallback], str | None]]:
        """Return one page, newest first, and the next cursor."""
        ...


def waits_for(
    found: CallbackFacts,
    live: LiveFacts,
    now: float,
    *,
    quotas: Iterable[QuotaUse] = (),
    before: FirstOfKeyView | None = None,
) -> WaitingView:
    """Return what a pending callback waits for; times are on the relay clock.

    ``quotas`` are the windows of its platform; ``before`` is the callback of its key that goes first, where one does.
    """
    if found.in_flight:
        return WaitingView(word="answer")
    if found.held:
        return _because("confirmation", None, found.reason)
    if live.paused:
        waiting = _because("paused", live.paused_until, live.pause_reason)
        return replace(waiting, removed=True) if live.removed else waiting
    for pause in live.paused_groups:
        if pause.group == found.group:
            return replace(_because("paused", pause.until, pause.reason), group=pause.group)
    if isinstance(found, CallbackView) and found.key_held is not UNSET:
        return _because("key paused", None, found.key_held)
    if (live.opens_at or 0) > now:
        return _because("hours", live.opens_at, live.hours)
    if before is not None:
        return WaitingView(word="earlier callback of its key", behind=before)
    if live.broken:
        word = "breaker" if live.breaker_open else "backoff"
        return _because(word, live.probe_at, live.breaker_reason)
    if (live.throttled_until or 0) > now:
        return _because("throttled", live.throttled_until, live.throttle_reason)
    for stop in live.stopped_groups:
        if stop.group == found.group and stop.until > now:
            waiting = _because("throttled", stop.until, stop.reason)
            return replace(waiting, group=stop.group) if stop.group else waiting
    if found.due_at > now:
        if _never_sent(found):
            gathers = live.gather_s > 0 and found.due_at <= found.accepted_at + live.gather_s
            return WaitingView(word="quiet" if gathers else "not before", until=moment(found.due_at))
        return _because("retry", found.due_at, found.reason)
    unclear = _unclear_attempt(found)
    if unclear is not None and live.waits_for in _NOTHING_ELSE_DUE:
        # Its batch goes again whole, at a time that stands with the batch: as nothing else is due, the platform's next.
        until = live.waits_until if live.waits_for == "retry" else None
        return _because("retry", until, unclear.reason)
    return _for_its_turn(found.group, live, list(quotas))


def _never_sent(found: CallbackFacts) -> bool:
    """Return whether no request carried it yet: then it waits for its own time, and not for that of a retry."""
    return (isinstance(found, CallbackView) and not found.attempt_count) or (
        isinstance(found, ListedCallback) and not found.attempts
    )


def _unclear_attempt(found: CallbackFacts) -> AttemptView | None:
    """Return the last attempt when the platform may have applied it: then the same batch is sent again."""
    last = found.attempts[-1] if isinstance(found, CallbackView) and found.attempts else None
    return last if last is not None and last.ambiguous else None


def _for_its_turn(group: str, live: LiveFacts, quotas: Sequence[QuotaUse]) -> WaitingView:
    """Return what something that is due waits for: its platform's wait, or its group's own limit."""
    learned = live.learned_limit
    full = full_quota(quotas, group=group)
    word = live.waits_for
    if full is not None and (word == "limit" or quota_group(full.quota)):
        waiting = WaitingView(word="limit", until=full.free_at, limit=_limit(full, learned))
        return replace(waiting, group=group) if quota_group(full.quota) else waiting
    if word not in _WHOLE_PLATFORM:
        return WaitingView(word="slot")
    waiting = WaitingView(word=word, until=moment(live.waits_until))
    if word == "pace":
        short = [quota for quota in quotas if quota.window_s <= _LONGEST_PACED_S]
        slowest = max(short or quotas, key=lambda quota: quota.window_s / quota.limit, default=None)
        return waiting if slowest is None else replace(waiting, limit=_limit(slowest, learned))
    if word == "concurrency" and learned is not None and learned.trying:
        return replace(waiting, reason=f"one request at a time while {learned.trying} is tried")
    return waiting


def _limit(quota: QuotaUse, learned: LimitView | None) -> HoldingLimitView:
    """Return a window as the reason of a wait, with how sure it is where that is known."""
    counted = "" if quota.unit == "requests" else f" {quota.unit}"
    rate = f"{quota.limit}{counted}/{quota.calendar or window_text(quota.window_s)}"
    source = quota_source(quota.quota)
    if learned is not None and not (
        source == learned.source == "learned" and quota_group(quota.quota) == learned.group
    ):
        learned = None  # it is told of another limit, or of another group's
    tried = learned is not None and rate == learned.trying
    return HoldingLimitView(
        rate=rate,
        source=source,
        quota=quota.quota,
        used=min(quota.used, quota.limit),
        confidence=None if learned is None or tried else learned.confidence,
        tried=tried,
    )


def _because(word: str, until: float | None, reason: str) -> WaitingView:
    return WaitingView(word=word, until=moment(until), reason=reason or UNSET)


async def first_of_key(
    found: CallbackFacts, listing: Listing, *, blocks_on_dead: Callable[[], bool]
) -> CallbackFacts | None:
    """Return the callback of the same key that must end before ``found`` may go, or None.

    That is the oldest pending one (of more than can be looked through, the oldest of those), or a dead one where those
    hold up their key (``on_dead: block``).
    """
    if not found.key:
        return None
    key = Filter(platform=found.platform, key=found.key, until=found.accepted_at + _SLACK_S)
    earlier = await _earlier_pending(dataclasses.replace(key, state=State.PENDING.word), found.id, listing)
    if earlier is not None:
        return earlier
    dead, _ = await listing.callbacks(dataclasses.replace(key, state=State.DEAD.word), cursor=None, limit=_MOST_DEAD)
    # What was dropped, or buried before it ever stood in line, holds up nobody; nor does what lies in a history file.
    tried = [each for each in dead if each.attempts and each.history is UNSET]
    if tried and blocks_on_dead():
        for each in tried:
            whole = await listing.callback(each.id)
            if whole is not None and not whole.payload_deleted:
                return each
    return None


async def _earlier_pending(wanted: Filter, callback_id: str, listing: Listing) -> CallbackFacts | None:
    """Return the last one of the list that comes after the callback itself: lists are newest first."""
    cursor: str | None = None
    earlier: CallbackFacts | None = None
    passed = False
    for _ in range(_MOST_PAGES):
        page, cursor = await listing.callbacks(wanted, cursor=cursor, limit=_PAGE)
        for each in page:
            if passed:
                earlier = each
            passed = passed or each.id == callback_id
        if cursor is None:
            break
    return earlier
