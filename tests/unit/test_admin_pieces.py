"""Filters, times, roles and platform views of the admin side."""

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from relay.admin.access import Access, Permission, User
from relay.admin.audit import Audit
from relay.admin.filters import InvalidFilter, page_size, parse, parse_time
from relay.admin.resources.part_orders import PlatformPart, read_part
from relay.admin.standing.backlog import ledger_view
from relay.admin.standing.drain import DrainTerms, Side, drain_eta_s
from relay.admin.standing.times import WallTimes
from relay.core.model import Filter
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.ledger import QueueTotals
from relay.views.moments import instant_text
from relay.views.queue import QuotaUse, StoreSize
from relay.web.refusal import Refusal
from tests.clocks import FakeClock

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", NOW - 7200),
        ("1.5m", NOW - 90),
        ("500ms", NOW - 0.5),
        ("2026-09-21T14:13:20Z", NOW),
        ("2026-09-21T14:13:20.500", NOW + 0.5),
        ("2026-09-21T22:13:20+08:00", NOW),
        ("2026-09-21T22:13:20 08:00", NOW),
        ("2026-09-21", NOW - 14 * 3600 - 13 * 60 - 20),
    ],
)
def test_times_are_ages_or_iso_8601(text: str, at: float) -> None:
    """UTC unless it says otherwise; an offset whose plus became a space in a query still counts."""
    assert parse_time(text, now=NOW) == pytest.approx(at)


def test_a_filter_takes_texts_and_json() -> None:
    """A query's comma list and a body's array of ids mean the same."""
    wanted = Filter(platform="shop-a", state="dead", ids=("A", "B"), since=NOW - 60)

    assert parse({"platform": "shop-a", "state": "dead", "ids": "A,B", "since": "1m"}, now=NOW) == wanted
    assert parse({"platform": "shop-a", "state": "dead", "ids": ["A", "B"], "since": "1m"}, now=NOW) == wanted
    assert parse({}, now=NOW) == Filter()


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"since": 7}, "since"),
        ({"until": "2h ago"}, "until"),
        ({"until": "-2h"}, "until"),
        ({"ids": ["A", 7]}, "ids"),
        ({"ids": ","}, "ids"),
        ({"key": "A", "evnt": "x"}, "evnt"),
        ({"key": None}, "key"),
        ({"ids": None}, "ids"),
        ({"ids": []}, "ids"),
        ({"since": ""}, "since"),
        ({"state": "Dead"}, "state"),
    ],
)
def test_a_filter_that_means_nothing_names_its_key(given: dict[str, object], key: str) -> None:
    """The problem carries the key as a member of its own."""
    with pytest.raises(InvalidFilter) as caught:
        parse(given, now=NOW)

    assert caught.value.extra == {"key": key}


def test_page_sizes_are_bounded() -> None:
    """A default, a maximum, and no surprises from other digits."""
    assert (page_size(None), page_size("1000")) == (100, 1000)
    for text in ("0", "1001", "-1", "１", "ten", ""):
        with pytest.raises(InvalidFilter):
            page_size(text)


def test_instants_are_utc_with_milliseconds() -> None:
    """Every time in a nested answer is turned, nothing else; no time is null."""
    assert instant_text(NOW + 0.1236) == "2026-09-21T14:13:20.124Z"
    assert [instant_text(at) for at in (None, 0.0, float("inf"))] == [None, None, None]
    turned = WallTimes(FakeClock(NOW), lambda: NOW).told(
        {"free_at": NOW, "used": 3, "rows": [{"at": NOW, "format": 1.0}], "held_at": None}
    )
    assert turned == {
        "free_at": "2026-09-21T14:13:20.000Z",
        "used": 3,
        "rows": [{"at": "2026-09-21T14:13:20.000Z", "format": 1.0}],
        "held_at": None,
    }


def test_times_are_told_by_the_wall_clock_of_now() -> None:
    """Set eight hours forward after the start: what goes out is shifted, what a person names is shifted back."""
    times = WallTimes(FakeClock(NOW), lambda: NOW + 8 * 3600)

    assert times.now() == NOW
    assert times.told({"at": NOW, "until": None, "n": NOW}) == {
        "at": "2026-09-21T22:13:20.000Z",
        "until": None,
        "n": NOW,
    }
    assert parse({"since": "2026-09-21T22:13:20Z", "until": "1h"}, now=times.now(), shift_s=times.shift_s) == Filter(
        since=NOW, until=NOW - 3600
    )


def test_reading_two_clocks_is_no_step() -> None:
    """Below a second nothing is shifted, above it by whole tenths: the same time is told the same way twice."""
    shifts = [
        WallTimes(FakeClock(NOW), lambda ahead=ahead: NOW + ahead).shift_s for ahead in (0.9, -0.9, 7.3301, -60.0)
    ]

    assert shifts == [0.0, 0.0, 7.3, -60.0]


def test_without_users_only_this_machine_is_served() -> None:
    """Local callers may all but reveal; a stranger on the network gets 403 however the listener was opened."""
    access = Access([])

    local = access.identify(None, remote="127.0.0.1", local=True)

    assert local.grants == set(Permission) - {Permission.REVEAL}
    with pytest.raises(Refusal) as caught:
        access.identify(None, remote="192.0.2.7", local=False)
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer other",
        "Basic secret",
        "secret",
        "Bearer sécret",
        "Bearer s",
        "Bearer secre",
        "Bearer secrets",
        "Bearer secret secret",
        "Bearer SECRET",
    ],
)
def test_with_users_a_missing_or_wrong_token_is_refused(header: str | None) -> None:
    """Being local does not help once users are configured."""
    access = Access([User("ops", "operator", "secret")])

    with pytest.raises(Refusal) as caught:
        access.identify(header, remote="127.0.0.1", local=True)

    assert caught.value.code == "unauthorized"


def test_users_can_be_replaced_and_an_unknown_role_may_nothing() -> None:
    """A reload takes a token away at once; a role nobody knows grants nothing."""
    access = Access([User("ops", "operator", "secret")])
    assert access.identify("bearer secret", remote="192.0.2.7", local=False).name == "ops"

    access.replace([User("ops", "root", "secret2")])

    with pytest.raises(Refusal):
        access.identify("Bearer secret", remote="192.0.2.7", local=False)
    assert access.identify("Bearer secret2", remote="192.0.2.7", local=False).grants == frozenset()


async def test_the_log_says_what_was_asked_for() -> None:
    """A limit with its rates and end; never a filter: it stands in the store, its ordering key masked."""

    class Kept:
        def __init__(self) -> None:
            self.records: list[Mapping[str, Any]] = []

        async def audit(self, record: Mapping[str, Any]) -> None:
            self.records.append(record)

    log, kept = io.BytesIO(), Kept()
    audit = Audit(records=kept, wall=FakeClock().now, events=Events(log=make_logger(file=log), metrics=Metrics()))
    who = Access([]).identify(None, remote="127.0.0.1", local=True)

    await audit.record(who, "platform.limit", "shop-a", rate=["80/min"], until="2026-09-21T16:13:20.000Z")
    await audit.record(who, "operation.retry", "*", filter={"key": "order-7"}, expect_count=3)

    limit, operation = (json.loads(line) for line in log.getvalue().splitlines())
    assert (limit["target"], limit["rate"], limit["until"]) == ("shop-a", ["80/min"], "2026-09-21T16:13:20.000Z")
    assert operation["expect_count"] == 3
    assert b"order-7" not in log.getvalue()
    assert kept.records[1]["details"] == {"filter": {"key": "o***"}, "expect_count": 3}


def test_the_ledger_shows_what_is_unaccounted() -> None:
    """A callback in no state at all shows, in its platform and in total."""
    totals = {"a": QueueTotals(accepted=5, delivered=3, pending=1), "b": QueueTotals(accepted=2, dead=2)}
    found = ledger_view(totals, StoreSize(0, max_bytes=0, usable_bytes=0, full=False))

    assert (found.platforms["a"].unaccounted, found.platforms["b"].unaccounted) == (1, 0)
    assert (found.total.accepted, found.total.unaccounted) == (7, 1)


@pytest.mark.parametrize(
    ("waiting", "used", "eta"), [(0, 0, 0.0), (1000, 0, 0.0), (12400, 100, 148.8), (1001, 100, 12.6), (1000, 140, 12.0)]
)
def test_the_drain_time_follows_the_slowest_window(waiting: int, used: int, eta: float) -> None:
    """Free slots go at once, the rest at the quota's speed; more used than allowed (a lowered limit) is no credit."""
    quotas = [
        QuotaUse("a", limit=100, window_s=60.0, used=used),
        QuotaUse("b", limit=50, window_s=1.0, used=0),
    ]

    terms = DrainTerms(50, 3600.0)
    assert drain_eta_s(waiting, Side(quotas), terms) == pytest.approx(eta, abs=0.11)
    assert drain_eta_s(5, Side([]), terms) is None


def test_a_stop_counts_to_the_drain_time() -> None:
    """What has to be waited out first, unless nothing waits; without a quota nobody knows what comes after it."""
    side, terms = Side([QuotaUse("a", limit=100, window_s=60.0, used=0)]), DrainTerms(100, 3600.0)

    assert drain_eta_s(3242, side, terms, stopped_s=79.0) == 79.0
    assert drain_eta_s(20_000, side, terms, stopped_s=79.0) == 139.0
    assert drain_eta_s(0, side, terms, stopped_s=79.0) == 0.0
    assert drain_eta_s(5, Side([]), terms, stopped_s=79.0) is None


def test_an_order_is_about_a_group_or_a_key() -> None:
    """One of them names the part; both contradict each other, whatever they say."""
    assert read_part({"group": "17", "reason": "x"}) == PlatformPart("17", None)
    assert read_part({"key": "991"}) == PlatformPart(None, "991")
    assert read_part({"reason": "x"}) is None
    with pytest.raises(Refusal) as refused:
        read_part({"group": "17", "key": "991"})
    assert (refused.value.code, "contradict each other" in refused.value.detail) == ("invalid_request", True)
