"""What there is to say about a platform and about all of them: state and reason, queue, drain time, and the ledger.

Plain functions over what the store knows of queues and what delivery tells of the moment, so that the command line
says the same without a daemon.
"""

import math
from collections.abc import Mapping
from heapq import nlargest

from msgspec import UNSET, UnsetType, structs

from relay.admin.standing.drain import DrainTerms, Side, drain_eta_s, measured_s
from relay.admin.standing.limit_orders import GROUPS_SHOWN, full_quota, origin, quota_views
from relay.core.model import seconds_text
from relay.core.quotas import quota_group
from relay.telemetry.flow import Flow
from relay.views.ledger import LedgerView, QueueTotals, RoomView, TotalsView
from relay.views.live import LiveFacts
from relay.views.moments import moment
from relay.views.past.objective import ObjectiveView
from relay.views.platform import CertificateView, PlatformView, StoppedGroupsView
from relay.views.queue import QueueFacts, StoreSize

_BUSY_S = 60.0  # the minute that rates are about


def ledger_view(totals: Mapping[str, QueueTotals], size: StoreSize) -> LedgerView:
    """Return the ledger: what was accepted and where all of it is, in total and per platform, and the store's room."""
    spool = size.spool
    platforms = {
        name: _accounted(counts, UNSET if spool is None else spool.get(name, 0))
        for name, counts in sorted(totals.items())
    }
    everything = QueueTotals(
        accepted=sum(counts.accepted for counts in totals.values()),
        delivered=sum(counts.delivered for counts in totals.values()),
        dead=sum(counts.dead for counts in totals.values()),
        expired=sum(counts.expired for counts in totals.values()),
        superseded=sum(counts.superseded for counts in totals.values()),
        pending=sum(counts.pending for counts in totals.values()),
    )
    room = RoomView(size.used_bytes, usable_bytes=size.usable_bytes, max_bytes=size.max_bytes, full=size.full)
    return LedgerView(_accounted(everything, UNSET if spool is None else size.spooled), platforms, room)


def platform_view(
    name: str,
    *,
    queue: QueueFacts,
    live: LiveFacts,
    terms: DrainTerms | None,
    flow: Flow | None,
    now: float,
    certificate: CertificateView | None = None,
    objective: ObjectiveView | None = None,
) -> PlatformView:
    """Return all there is to say about one platform; times are on the relay clock. ``flow`` None: nobody knows it."""
    whole = [quota for quota in queue.quotas if not quota_group(quota.quota)]
    state, reason, since, until = _state(queue, live, now)
    oldest_at = queue.oldest_due_at
    waiting = queue.pending - queue.held
    waits = state in ("throttled", "limited") and until != math.inf  # when a slot is free may depend on an answer
    stopped_s = max(0.0, (live.opens_at or now) - now, (until or now) - now if waits else 0.0)
    sends = state not in ("paused", "broken")
    came = 0.0 if flow is None else flow.steady_in_per_s
    side = Side(whole, live.allowed)
    drained_s = drain_eta_s(waiting, side, terms, stopped_s=stopped_s, in_per_s=came) if sends else math.inf
    oldest_s = None if oldest_at is None or oldest_at > now else round(now - oldest_at, 3)
    if drained_s is None and flow is not None and (oldest_s or 0.0) >= _BUSY_S:
        drained_s = measured_s(waiting, flow)
    return PlatformView(
        name=name,
        removed=live.removed,
        state=state,
        reason=reason,
        since=moment(since),
        until=moment(until),
        paused_groups=list(live.paused_groups),
        stopped_groups=_stopped_groups(live),
        in_per_s=None if flow is None else flow.in_per_s,
        out_per_s=None if flow is None else flow.out_per_s,
        pending=queue.pending,
        in_flight=queue.in_flight,
        requests_in_flight=live.in_flight,
        requests_allowed=live.allowed,
        held=queue.held,
        keys_held=queue.keys_held,
        oldest_due_seconds=oldest_s,
        dead=queue.dead,
        quotas=quota_views(queue.quotas),
        learned_limit=live.learned_limit,
        drain_eta_seconds=None if drained_s == math.inf else drained_s,
        drain_reason=_undrained(state, drained_s, until=until),
        growing=drained_s == math.inf and waiting > 0 and came > 0.0,
        expires_seconds=None if terms is None else terms.expires_s,
        last_error=live.last_error or queue.last_error,
        certificate=certificate,
        objective=objective,
    )


def _stopped_groups(live: LiveFacts) -> StoppedGroupsView:
    """Return how many groups are stopped on their own, and those that are stopped longest."""
    first = nlargest(GROUPS_SHOWN, live.stopped_groups, key=lambda group: group.until)
    return StoppedGroupsView(len(live.stopped_groups), first)


def _undrained(state: str, drained_s: float | None, *, until: float | None) -> str:
    """Return why there is no drain time; empty where there is one."""
    if drained_s is None:
        return "no limit holds it, so its own speed decides; that is measured once something has waited for a minute"
    if drained_s != math.inf:
        return ""
    if state == "paused":
        return "paused: nothing is sent until " + ("the pause ends" if until else "an operator resumes it")
    if state == "broken":
        return "broken: nothing but single tries is sent until one is accepted"
    return "growing: more comes in than goes out"


def _accounted(counts: QueueTotals, spooled: int | UnsetType) -> TotalsView:
    return TotalsView(**structs.asdict(counts), unaccounted=counts.unaccounted, spooled=spooled)


def _state(queue: QueueFacts, live: LiveFacts, now: float) -> tuple[str, str, float | None, float | None]:
    """Return the state that explains most (SPEC 4's order), its reason, since when and until when (None: unknown)."""
    if live.paused:
        return "paused", live.pause_reason or "paused by an operator", live.paused_since, live.paused_until
    if live.broken:
        reason = live.breaker_reason or "the breaker is open"
        return "broken", reason, live.broken_since, live.probe_at
    if (live.throttled_until or 0) > now:
        reason = live.throttle_reason or "the platform asked to wait"
        return "throttled", reason, live.throttled_since, live.throttled_until
    if (live.opens_at or 0) > now:
        return "ok", f"outside its sending hours, {live.hours}", None, live.opens_at
    waits = (live.limited_until or 0) > now
    # A group that has used up its own limit holds up itself; the platform only when there is nothing else to send.
    full = full_quota(queue.quotas, group=None if waits else "")
    if full is not None and queue.pending:
        window, where = seconds_text(full.window_s), origin(full.quota)
        told = f"{full.limit} of {full.limit} {full.unit} in {window} used ({where})"
        if full.unknown:
            told = f"all {full.limit} {full.unit} in {window} count as used: what was sent is not known ({where})"
        return "limited", told, live.limited_since, full.free_at
    if waits:
        return "limited", "waiting for a slot", live.limited_since, live.limited_until
    return "ok", "", None, None
