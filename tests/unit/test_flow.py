"""How much comes in and goes out, and what that does to a drain time."""

import io
import math
from typing import Any

import facts
import pytest
from relay.admin.standing.backlog import platform_view
from relay.admin.standing.drain import DrainTerms, Side, drain_eta_s
from relay.core.clock import elapsed_s
from relay.telemetry.events import Events
from relay.telemetry.flow import Flow, Flows
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.queue import QuotaUse

BEGAN = 1000.5


def quota(*, limit: int = 60, used: int = 0, window_s: float = 60.0) -> QuotaUse:
    """A platform's own limit."""
    return QuotaUse("platform:shop-a", limit=limit, used=used, window_s=window_s)


def test_rates_are_over_the_last_minute() -> None:
    """5/s in and 3/s out for two minutes; what stopped a minute ago is forgotten."""
    flows = Flows(BEGAN)
    for second in range(120):
        flows.came_in("a", 5, BEGAN + second)
        flows.went_out("a", 3, BEGAN + second)
    assert flows.of("a", BEGAN + 119) == Flow(5.0, 3.0, 5.0)
    assert flows.of("a", BEGAN + 149).in_per_s == pytest.approx(2.5, abs=0.1)
    assert flows.of("a", BEGAN + 180) == Flow()
    assert flows.of("b", BEGAN + 180) == Flow()


def test_a_fresh_start_counts_since_then() -> None:
    """After 20 s of 5/s the rate is 5/s, not a third of it."""
    flows = Flows(BEGAN)
    for second in range(20):
        flows.came_in("a", 5, BEGAN + second)
    assert flows.of("a", BEGAN + 20).in_per_s == pytest.approx(5.0)
    assert flows.of("a", BEGAN + 20).steady_in_per_s == pytest.approx(5.0, abs=0.5)


def test_a_burst_is_not_steady() -> None:
    """2,500 at once are told as they are, but nothing says that more follows."""
    flows = Flows(BEGAN)
    flows.came_in("a", 2500, BEGAN + 90)
    found = flows.of("a", BEGAN + 91)
    assert found.in_per_s == pytest.approx(2500 / 60, abs=0.01)
    assert found.steady_in_per_s == 0.0


@pytest.mark.parametrize("age_s", [6, 8, 12, 19, 25, 31])
def test_a_burst_after_a_start_is_not_steady_either(age_s: int) -> None:
    """What is posted in bulk to a relay that has just started does not make its backlog grow."""
    flows = Flows(BEGAN)
    for second in (2, 3):
        flows.came_in("a", 10_000, BEGAN + second)
    assert flows.of("a", BEGAN + age_s).steady_in_per_s == 0.0


@pytest.mark.parametrize(
    ("waiting", "used", "in_per_s", "eta"),
    [
        (120, 60, 0.0, 120.0),
        (120, 60, 0.5, 240.0),
        (120, 0, 0.5, 120.0),  # 60 at once
        (120, 60, 1.0, math.inf),
        (120, 60, 5.0, math.inf),
        (10, 0, 5.0, 0.0),  # goes at once, and then there is none
        (0, 60, 5.0, 0.0),
    ],
)
def test_drain_counts_what_comes_in(waiting: int, used: int, in_per_s: float, eta: float) -> None:
    """60 requests a minute, one callback each: what comes in meanwhile has to go too."""
    side = Side([quota(used=used)])
    assert drain_eta_s(waiting, side, DrainTerms(1, 3600.0), in_per_s=in_per_s) == pytest.approx(eta)


def test_what_comes_in_during_a_stop_waits_too() -> None:
    """60 s of 0.5/s are 30 more."""
    side = Side([quota(used=60)])
    found = drain_eta_s(60, side, DrainTerms(1, 3600.0), stopped_s=60.0, in_per_s=0.5)
    assert found == pytest.approx(60.0 + 90 / 0.5)


@pytest.mark.parametrize(
    ("quotas", "burst", "stopped_s", "eta"),
    [
        ([quota(limit=600)], None, 0.0, None),  # 400 requests of 50, 4 at a time: the platform's own speed decides
        ([quota(limit=600)], 20, 0.0, 38.0),  # 20 at once, then one every 0.1 s
        ([quota(limit=600), quota(limit=10, window_s=1.0)], 5, 0.0, 39.5),
        ([quota(limit=600)], None, 30.0, 30.0),
        ([QuotaUse("platform:a", 60.0, 600, 0, unit="items")], None, 0.0, 1940.0),  # 600 callbacks, not requests
        ([QuotaUse("platform:a", 60.0, 600, 600, unit="items"), quota()], None, 9.0, 2009.0),
        ([QuotaUse("platform:a", 60.0, 2**20, 0, unit="bytes"), quota()], None, 0.0, None),
        ([QuotaUse("platform:a", 86400.0, 100, 0, calendar="day@+08:00")], None, 0.0, None),  # used up in between
        ([QuotaUse("platform:a", 86400.0, 1000, 0, calendar="day@+08:00"), quota()], None, 0.0, 340.0),
        ([QuotaUse("platform:a", 86400.0, 400, 400, calendar="day@+08:00")], None, 3600.0, 3600.0),
    ],
)
def test_drain_counts_what_a_window_counts(
    quotas: list[QuotaUse], burst: int | None, stopped_s: float, eta: float | None
) -> None:
    """20,000 callbacks: free slots promise no speed, and a limit of callbacks is none of requests."""
    found = drain_eta_s(20_000, Side(quotas, 4), DrainTerms(50, 86400.0, burst), stopped_s=stopped_s)
    assert found == (None if eta is None else pytest.approx(eta))


def test_few_requests_go_at_once() -> None:
    """As many as go side by side."""
    assert drain_eta_s(200, Side([quota()], 4), DrainTerms(50, 86400.0)) == 0.0
    assert drain_eta_s(201, Side([quota()], 4), DrainTerms(50, 86400.0)) is None


@pytest.mark.parametrize(
    ("queue", "live", "flow", "drained", "growing"),
    [
        ({"pending": 120, "quotas": [quota(used=60)]}, {}, Flow(5.0, 1.0, 5.0), None, True),
        ({"pending": 120, "quotas": [quota(used=60)]}, {}, Flow(0.5, 1.0, 0.5), 240.0, False),
        ({"pending": 5}, {"paused": True}, Flow(1.0, 0.0, 1.0), None, True),
        ({"pending": 5}, {"broken": True}, Flow(), None, False),
        ({"pending": 5, "held": 5}, {"broken": True}, Flow(1.0, 0.0, 1.0), None, False),
        ({"pending": 50, "oldest_due_at": 900.0}, {}, Flow(2.0, 3.0, 2.0), 50.0, False),  # no limit: as measured
        ({"pending": 50, "oldest_due_at": 900.0}, {}, Flow(4.0, 3.0, 4.0), None, True),
        ({"pending": 50, "oldest_due_at": 990.0}, {}, Flow(4.0, 3.0, 4.0), None, False),  # not a minute old: unknown
        ({"pending": 0}, {}, Flow(4.0, 4.0, 4.0), 0.0, False),
    ],
)
def test_growing(queue: dict[str, Any], live: dict[str, Any], flow: Flow, drained: float | None, growing: bool) -> None:
    """A backlog that does not shrink has no drain time, and says so."""
    view = platform_view(
        "shop-a", queue=facts.queue(queue), live=facts.live(live), terms=DrainTerms(1, 3600.0), flow=flow, now=1000.0
    )
    assert (view.drain_eta_seconds, view.growing) == (drained, growing)
    assert (view.in_per_s, view.out_per_s) == (flow.in_per_s, flow.out_per_s)
    assert (view.drain_reason == "") == (drained is not None)


@pytest.mark.parametrize(
    ("live", "why"),
    [
        ({"paused": True}, "paused: nothing is sent until an operator resumes it"),
        ({"paused": True, "paused_until": 1030.0}, "paused: nothing is sent until the pause ends"),
        ({"broken": True}, "broken: nothing but single tries is sent until one is accepted"),
        ({}, "no limit holds it, so its own speed decides; that is measured once something has waited for a minute"),
    ],
)
def test_a_drain_time_that_is_missing_says_why(live: dict[str, Any], why: str) -> None:
    """A dash alone looks like nothing to do."""
    view = platform_view(
        "shop-a", queue=facts.queue({"pending": 5}), live=facts.live(live), terms=None, flow=None, now=1000.0
    )
    assert (view.drain_eta_seconds, view.drain_reason) == (None, why)


def test_events_are_counted() -> None:
    """What is accepted and what is delivered, also while a scrape never comes."""
    metrics = Metrics()
    events = Events(log=make_logger(file=io.BytesIO()), metrics=metrics)
    events.accepted(platform="a", count=50, duplicates=3)
    events.delivered(platform="a", latencies=[0.1] * 20, late=0)
    found = metrics.flow("a")
    assert elapsed_s() > 0
    assert found.in_per_s == pytest.approx(2.5 * found.out_per_s)
    assert found.out_per_s > 0
