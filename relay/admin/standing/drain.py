"""How long a backlog takes: what the windows and the burst let through, or what was measured."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relay.policy.pacing import PACED_WINDOW_S
from relay.telemetry.flow import Flow
from relay.views.queue import QuotaUse


class DrainTerms(NamedTuple):
    """What of a platform's configuration tells how long a backlog takes, and how long it may take."""

    batch_items: int  # ``batch.max_items``
    expires_s: float  # ``expires``: of callbacks that say nothing themselves
    burst: int | None = None  # so many requests go back to back, then the pace of the rate


class Side(NamedTuple):
    """What a backlog is sent under: the windows, and how many requests are under way at once (None: not known)."""

    quotas: Sequence[QuotaUse]
    at_once: int | None = None


class _Gate(NamedTuple):
    """One thing that holds requests or items back: so much goes at once, then so much a second."""

    wanted: float
    free: float
    per_s: float


def drain_eta_s(
    waiting: int, side: Side, terms: DrainTerms | None, *, stopped_s: float = 0.0, in_per_s: float = 0.0
) -> float | None:
    """Return in how many seconds ``waiting`` callbacks, and what comes meanwhile, can have been sent; None: unknown.

    Nothing goes for ``stopped_s``. Then each window lets its free slots go at once and ``limit`` per ``window_s`` after
    that, every batch full; the slowest decides. Where more comes in than one lets through it is infinite. With 2
    callbacks a second to come and 1 request of 10 a second to go, 80 are sent in 10 s. ``items: 600/min`` with 1,200
    to send takes a minute, however few the requests.

    It is unknown where the platform's own speed decides, which nobody has promised: without a window, or where the free
    slots are enough and it takes more requests than go side by side. So it is where a window cannot be foreseen: of
    bytes or points, which differ from one callback to the next, or of a calendar that will be used up.
    """
    if waiting <= 0:
        return 0.0
    if not side.quotas or terms is None:
        return None
    load = _Load.of(waiting + in_per_s * stopped_s, in_per_s, terms.batch_items)
    slowest_s = 0.0
    for gate in _gates(side.quotas, terms, load, stopped_s=stopped_s):
        if gate is None:
            return None
        left = gate.wanted - gate.free
        if left > 0:
            slowest_s = max(slowest_s, left / gate.per_s if gate.per_s > 0.0 else math.inf)
    lasting_s = round(stopped_s + slowest_s, 1)
    return lasting_s if lasting_s or side.at_once is None or load.wanted["requests"] <= side.at_once else None


class _Load(NamedTuple):
    """What is to be sent and what comes a second, each by the unit of a window."""

    wanted: dict[str, float]
    comes: dict[str, float]

    @classmethod
    def of(cls, items: float, in_per_s: float, batch_items: int) -> "_Load":
        requests = math.ceil(items / batch_items)
        return cls({"requests": requests, "items": items}, {"requests": in_per_s / batch_items, "items": in_per_s})


def _gates(quotas: Sequence[QuotaUse], terms: DrainTerms, load: _Load, *, stopped_s: float) -> Iterator[_Gate | None]:
    """Yield what holds the load back; None for a window that cannot be foreseen.

    A calendar that is used up has been waited for with ``stopped_s``, and lets all of its next period go.
    """
    for quota in quotas:
        wanted = load.wanted.get(quota.unit)
        if wanted is None:
            yield None
            continue
        used = 0 if quota.calendar and quota.used >= quota.limit and stopped_s else quota.used
        free = max(0, quota.limit - used)
        if quota.calendar and wanted > free:
            yield None
        yield _Gate(wanted, free, quota.limit / quota.window_s - load.comes[quota.unit])
    rates = [quota for quota in quotas if _is_own_rate(quota)]
    if terms.burst is not None and rates:
        gaps_s = [rate.window_s / rate.limit for rate in rates if rate.window_s <= PACED_WINDOW_S]
        shortest = min(rates, key=lambda rate: rate.window_s)
        gap_s = max(gaps_s, default=shortest.window_s / shortest.limit)
        yield _Gate(load.wanted["requests"], terms.burst, 1.0 / gap_s - load.comes["requests"])


def _is_own_rate(quota: QuotaUse) -> bool:
    """Tell whether a window is one of the platform's own ``rate``, whose requests count in any such window."""
    return quota.quota.startswith("platform:") and quota.unit == "requests" and not quota.calendar


def measured_s(waiting: int, flow: Flow) -> float:
    """Return the drain time at the speed of the last minute, all of which there was a backlog."""
    shrinks = flow.out_per_s - flow.steady_in_per_s
    return round(waiting / shrinks, 1) if shrinks > 0.0 else math.inf
