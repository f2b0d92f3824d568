"""What is made of limits for people: where one comes from, which one holds a callback back, in which words."""

from functools import partial
from typing import Any

import facts
import pytest
from msgspec import UNSET
from msgspec.structs import replace
from relay.admin.standing.backlog import platform_view
from relay.admin.standing.drain import DrainTerms
from relay.admin.standing.limit_orders import full_quota, origin, quota_views
from relay.admin.standing.waiting import waits_for
from relay.cli.support import limit_words, why_wait
from relay.cli.support.output import aligned
from relay.core.quotas import quota_group, quota_shared, quota_source
from relay.policy.gate.stop import NOTHING_LEFT
from relay.telemetry.metrics import Metrics
from relay.views.live import NOTHING_KNOWN, LiveFacts
from relay.views.moments import Instant
from relay.views.queue import QueueFacts, QuotaUse
from relay.views.waiting import WaitingView

NOW = 1000.0


def quota(name: str, *, used: int = 0, limit: int = 100, window_s: float = 60.0, free_at: float = NOW) -> QuotaUse:
    """A window as a store tells it."""
    return QuotaUse(quota=name, window_s=window_s, limit=limit, used=used, free_at=Instant(free_at))


def held_by(source: str, name: str) -> dict[str, Any]:
    """A limit as the reason of a wait."""
    return {"rate": "5/s", "source": source, "quota": name, "used": 0, "confidence": None, "tried": False}


def behind(first: dict[str, Any]) -> dict[str, Any]:
    """A wait for another callback of the key."""
    return {"for": "earlier callback of its key", "until": None, "behind": {"id": "X", "reason": "", **first}}


@pytest.mark.parametrize(
    ("name", "source", "group", "shared", "told"),
    [
        ("platform:shop-a", "configured", "", "", "configured"),
        ("wechat-app", "configured", "", "wechat-app", "configured, quota wechat-app"),
        ("learned", "configured", "", "learned", "configured, quota learned"),
        ("learned:shop-a", "learned", "", "", "learned"),
        ("declared:shop-a", "declared", "", "", "declared"),
        ("operator:shop-a", "operator", "", "", "operator"),
        ("learned:shop-a/17", "learned", "17", "", "learned, group 17"),
        ("learned:shop-a/a/b:c", "learned", "a/b:c", "", "learned, group a/b:c"),
    ],
)
def test_a_quotas_name_says_where_its_limit_comes_from(
    name: str, source: str, group: str, shared: str, told: str
) -> None:
    """The platform's own rate, a shared quota, and what no configuration holds, of one group or all."""
    assert (quota_source(name), quota_group(name), quota_shared(name)) == (source, group, shared)
    assert origin(name) == told


def test_a_platform_shows_its_fullest_groups() -> None:
    """All limits of the whole platform, and of thousands that groups have those that are used most."""
    groups = [quota(f"learned:shop-a/{number}", used=number) for number in range(64)]
    shown = quota_views([*groups, quota("platform:shop-a", used=3)])

    assert [each.group for each in shown] == ["", *(str(number) for number in range(63, 53, -1))]
    assert {each.source for each in shown[1:]} == {"learned"}


def test_one_group_at_its_limit_does_not_hold_up_the_platform() -> None:
    """Only when there is nothing else to send is the platform limited, and then by whom is said; no drain time then."""
    full = quota("learned:shop-a/17", used=30, limit=30, free_at=NOW + 5)
    queue = QueueFacts(pending=9, quotas=[quota("platform:shop-a"), full])

    free = platform_view("shop-a", queue=queue, live=NOTHING_KNOWN, terms=DrainTerms(1, 86400.0), flow=None, now=NOW)
    waits = platform_view(
        "shop-a",
        queue=queue,
        live=LiveFacts(limited_until=NOW + 5, limited_since=NOW - 7),
        terms=DrainTerms(1, 86400.0),
        flow=None,
        now=NOW,
    )

    assert (free.state, free.drain_eta_seconds) == ("ok", 0.0)
    assert waits.since == NOW - 7
    assert (waits.state, waits.reason) == ("limited", "30 of 30 requests in 60s used (learned, group 17)")


def test_a_full_limit_is_told_in_what_it_counts() -> None:
    """``items: 600/min`` is used up by callbacks; 600 requests were never made."""
    full = replace(quota("platform:shop-a", used=600, limit=600, free_at=NOW + 5), unit="items")
    queue = QueueFacts(pending=9, quotas=[full])

    view = platform_view("shop-a", queue=queue, live=NOTHING_KNOWN, terms=None, flow=None, now=NOW)

    assert (view.state, view.reason) == ("limited", "600 of 600 items in 60s used (configured)")


@pytest.mark.parametrize(("free_at", "drained"), [(NOW + 12, 12.6), (float("inf"), 0.6)])
def test_a_used_up_window_drains_from_its_next_slot_on(free_at: float, drained: float) -> None:
    """One callback waits 12 s for a slot of 100/min; when an answer decides that, the pace alone is known."""
    queue = QueueFacts(pending=1, quotas=[quota("platform:shop-a", used=100, free_at=free_at)])
    view = platform_view("shop-a", queue=queue, live=NOTHING_KNOWN, terms=DrainTerms(1, 86400.0), flow=None, now=NOW)
    assert (view.state, view.drain_eta_seconds) == ("limited", drained)


def test_the_limit_that_ends_last_is_named() -> None:
    """Of several full windows the one that gives its next slot last is what a callback waits for; no other group's."""
    configured = quota("platform:shop-a", used=10, limit=10, window_s=1.0, free_at=NOW + 0.4)
    learned = quota("learned:shop-a", used=100, free_at=NOW + 30)
    other = quota("learned:shop-a/17", used=30, limit=30, free_at=NOW + 50)

    assert full_quota([configured, learned, other], group="") == learned
    assert full_quota([configured, learned, other], group="17") == other
    assert full_quota([configured, learned], group="17") == learned
    assert full_quota([quota("platform:shop-a", used=99)]) is None


def test_a_callback_waits_for_the_limit_of_its_group() -> None:
    """While the platform goes on with other groups; a callback of another group is not told so."""
    live = {"waits_for": "", "learned_limit": {"source": "learned", "confidence": 0.5, "group": "17"}}
    quotas = [quota("learned:shop-a/17", used=30, limit=30, free_at=NOW + 5)]

    own = waits_for(facts.callback(group="17"), facts.live(live), NOW, quotas=quotas)
    other = waits_for(facts.callback(group="18"), facts.live(live), NOW, quotas=quotas)

    assert (own.word, own.until, own.group, own.limit and own.limit.rate) == ("limit", NOW + 5, "17", "30/min")
    assert other == WaitingView(word="slot")
    assert why_wait.sentence(own, platform="shop-a") == (
        "it waits for a slot of the learned limit 30/min (50 % sure) for group 17"
    )


@pytest.mark.parametrize(
    ("live", "waits", "until"),
    [
        ({"waits_for": "retry", "waits_until": NOW + 20}, "retry", NOW + 20),
        ({"waits_for": ""}, "retry", None),
        ({"waits_for": "limit", "waits_until": NOW + 5}, "limit", NOW + 5),
    ],
)
def test_what_may_have_been_applied_waits_for_its_retry(live: dict[str, Any], waits: str, until: float | None) -> None:
    """Its batch is sent again whole at a time of its own; once that has come, it waits as everything does."""
    unclear = facts.attempt(outcome="retry", reason="500 Internal Server Error", ambiguous=True)
    found = facts.callback(due_at=NOW - 9)
    waiting = waits_for(replace(found, attempts=[unclear]), facts.live(live), NOW)
    clear = waits_for(replace(found, attempts=[replace(unclear, ambiguous=False)]), NOTHING_KNOWN, NOW)

    assert (waiting.word, waiting.until) == (waits, until)
    assert clear.word == "slot"


@pytest.mark.parametrize(
    ("waiting", "sentence"),
    [
        ({"for": "answer"}, "a request with it is under way"),
        (
            {"for": "confirmation", "reason": "no rule"},
            "the answer was not recognised (no rule), so it is held for a person",
        ),
        ({"for": "paused"}, "an operator paused shop-a"),
        ({"for": "retry", "reason": "timeout"}, "its last attempt failed (timeout) and it backs off"),
        ({"for": "throttled", "group": "17", "reason": "429"}, "group 17 of shop-a asked to be left alone (429)"),
        (
            {"for": "throttled", "reason": NOTHING_LEFT},
            "shop-a is held back: its last answer said that nothing is left of its limit",
        ),
        ({"for": "limit"}, "it waits for a slot: all requests that the limit allows are used"),
        (
            {"for": "limit", "limit": held_by("declared", "declared:shop-a")},
            "it waits for a slot of the limit 5/s that the platform declares",
        ),
        (
            {"for": "limit", "limit": held_by("operator", "operator:shop-a")},
            "it waits for a slot of the limit 5/s that an operator set",
        ),
        (
            {"for": "pace", "limit": held_by("configured", "wx")},
            "it waits for the pace: requests are spread over the window of the configured limit 5/s of quota wx",
        ),
        ({"for": "pace"}, "it waits for the pace: requests are spread over the window"),
        (
            {"for": "earlier callback of its key"},
            "it waits for an earlier callback of its key: they go one after the other",
        ),
        (
            behind({"state": "dead", "reason": "rejected"}),
            "it goes after X of its key, which is dead (rejected) and blocks it (on_dead: block)",
        ),
        (
            behind({"state": "pending", "waiting": {"for": "limit"}}),
            "it goes after X, an earlier callback of its key; that one waits for a slot: all requests that the limit "
            "allows are used",
        ),
        ({"for": "store"}, "the store could not commit; it is tried again every second"),
        (
            {"for": "store", "reason": "the store cannot be reached"},
            "the store could not commit (the store cannot be reached); it is tried again every second",
        ),
        (
            {"for": "backoff", "reason": "stopped: the relay failed 3 times alike with it (ValueError, see the log)"},
            "shop-a stands still: the relay failed 3 times alike with it (ValueError, see the log)",
        ),
        ({"for": "something new"}, "it waits for something new"),
    ],
)  # fmt: skip
def test_a_wait_is_a_plain_sentence(waiting: dict[str, Any], sentence: str) -> None:
    """Whatever it waits for, with the facts there are and without those there are not."""
    assert why_wait.sentence(facts.waiting(waiting), platform="shop-a") == sentence


def test_what_a_person_can_do_follows_the_first_in_line() -> None:
    """A dead one that blocks is retried or dropped, a pause or stop ended, an unclear answer resolved; else nothing."""
    held = facts.waiting(behind({"state": "pending", "waiting": {"for": "confirmation"}}))
    waits = facts.waiting(behind({"state": "pending", "waiting": {"for": "retry", "until": 1_767_225_600.0}}))

    to_do = partial(why_wait.to_do, platform="shop-a", callback="1K0X")
    told = to_do(facts.waiting(behind({"state": "dead"})))
    assert told == "relay dead retry X (or: relay dead drop X)"
    assert "relay resolve X --as" in to_do(held)
    assert "relay resolve 1K0X --as" in to_do(WaitingView(word="confirmation"))
    assert to_do(WaitingView(word="paused")) == "relay resume shop-a"
    for word in ("breaker", "backoff", "throttled"):
        told = to_do(WaitingView(word=word))
        assert told == "relay resume shop-a ends the stop: what waits, also what was refused, is tried at once"
    assert "ends every stop" in to_do(WaitingView(word="throttled", group="17"))
    declared = facts.waiting({"for": "limit", "limit": held_by("declared", "declared:shop-a")})
    assert to_do(declared) == "relay limit shop-a tells more, and changes it"
    assert "relay resume shop-a tries it at once" in to_do(WaitingView(word="retry"))
    assert to_do(WaitingView(word="slot")) == ""
    assert why_wait.until_of(waits) == 1_767_225_600.0


def test_an_estimate_is_never_certain() -> None:
    """What nobody has proven is not told as 100 %; where nothing is estimated nothing is told."""
    assert [limit_words.sure(each) for each in (None, 0.0, 0.869, 1.0)] == ["", "0 %", "86 %", "99 %"]


def test_facts_stand_in_one_column() -> None:
    """Names padded to the longest; not wrapped where a program reads; control characters do nothing."""
    assert aligned([("a", "x" * 200), ("because", "y\x1b[2J")]) == [
        f"a        {'x' * 200}", "because  y\N{REPLACEMENT CHARACTER}[2J",
    ]  # fmt: skip
    assert aligned([]) == []


def test_limits_of_either_kind_are_two_series() -> None:
    """Learned, declared and an operator's are the kind learned; of several the tightest counts."""
    metrics = Metrics()
    quotas = [
        quota("platform:a", used=10),
        quota("wechat-app", used=10, limit=50),
        quota("learned:a", used=10, limit=40),
        quota("learned:a/17", used=9, limit=10),
        quota("operator:a", used=1, limit=2, window_s=1.0),
    ]
    metrics.snapshot(totals={}, statuses={"a": QueueFacts(quotas=quotas)}, size=None, live={}, now=NOW)
    lines = metrics.render().decode().splitlines()

    assert [line for line in lines if line.startswith("relay_rate_")] == [
        'relay_rate_used{platform="a",window="60s"} 9.0',
        'relay_rate_used{platform="a",window="1s"} 1.0',
        'relay_rate_limit{kind="configured",platform="a",window="60s"} 50.0',
        'relay_rate_limit{kind="learned",platform="a",window="60s"} 10.0',
        'relay_rate_limit{kind="learned",platform="a",window="1s"} 2.0',
    ]


def test_a_window_of_which_nobody_knows_what_was_sent_is_told() -> None:
    """Why the platform waits, until when and where to read what helps: in its state and below the table."""
    day = replace(quota("platform:shop-a", used=100, window_s=86_400.0, free_at=NOW + 86_400.0), unknown=True)
    facts = QueueFacts(pending=3, quotas=[day])
    view = platform_view("shop-a", queue=facts, live=NOTHING_KNOWN, terms=None, flow=None, now=NOW)
    assert (view.state, view.until) == ("limited", NOW + 86_400.0)
    assert view.reason == "all 100 requests in 86400s count as used: what was sent is not known (configured)"
    assert limit_words.not_known(view, NOW).startswith("shop-a: all of 100/day counts as used until ")
    known = replace(view, quotas=quota_views([replace(day, unknown=UNSET)]))
    assert limit_words.not_known(known, NOW) == ""
