"""Why a callback waits: of all reasons that hold the one that stops it first, in the order in which they would."""

from typing import Any

import facts
import pytest
from relay.admin.standing.waiting import waits_for
from relay.views.moments import read
from relay.views.waiting import FirstOfKeyView, WaitingView

NOW = 1_000.0
BEFORE = {"id": "1", "state": "pending", "reason": ""}
# Each row holds on its own, and takes the word from all rows below it.
REASONS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"in_flight": True}, {}, {"for": "answer", "until": None}),
    ({"held": True, "reason": "no rule"}, {}, {"for": "confirmation", "until": None, "reason": "no rule"}),
    (
        {},
        {"paused": True, "pause_reason": "stock-taking"},
        {"for": "paused", "until": None, "reason": "stock-taking"},
    ),
    (
        {},
        {"opens_at": NOW + 99, "hours": "08:00 to 22:00 UTC"},
        {"for": "hours", "until": NOW + 99, "reason": "08:00 to 22:00 UTC"},
    ),
    ({"before": BEFORE}, {}, {"for": "earlier callback of its key", "until": None, "behind": BEFORE}),
    (
        {},
        {"broken": True, "breaker_open": True, "probe_at": NOW + 7, "breaker_reason": "5 in a row"},
        {"for": "breaker", "until": NOW + 7, "reason": "5 in a row"},
    ),
    (
        {},
        {"throttled_until": NOW + 9, "throttle_reason": "429"},
        {"for": "throttled", "until": NOW + 9, "reason": "429"},
    ),
    (
        {"group": "s1"},
        {"stopped_groups": [{"group": "s1", "until": NOW + 3, "reason": "429 s1"}]},
        {"for": "throttled", "until": NOW + 3, "reason": "429 s1", "group": "s1"},
    ),
    ({"due_at": NOW + 4, "reason": "500", "attempt_count": 1}, {}, {"for": "retry", "until": NOW + 4, "reason": "500"}),
    ({}, {"waits_for": "linger", "waits_until": NOW + 1}, {"for": "linger", "until": NOW + 1}),
    ({}, {}, {"for": "slot", "until": None}),
]


@pytest.mark.parametrize(
    ("gather_s", "due_at", "attempts", "word"),
    [
        (0.0, NOW + 4, 0, "not before"),
        (30.0, NOW + 4, 0, "quiet"),
        (30.0, NOW + 400, 0, "not before"),  # later than any quiet: it was posted so
        (30.0, NOW + 4, 1, "retry"),
    ],
)
def test_a_time_that_is_not_a_retrys(gather_s: float, due_at: float, attempts: int, word: str) -> None:
    """What was never sent waits for its own time, or until its key is quiet."""
    found = facts.callback(due_at=due_at, attempt_count=attempts, accepted_at=NOW - 1)
    waiting = waits_for(found, facts.live({"gather_s": gather_s}), NOW)
    assert (waiting.word, waiting.until) == (word, due_at)


def ask(found: dict[str, Any], live: dict[str, Any]) -> WaitingView:
    """Ask with what stands before it taken out of what was found."""
    before = read(FirstOfKeyView, found["before"]) if "before" in found else None
    given = {key: value for key, value in found.items() if key != "before"}
    return waits_for(facts.callback(**given), facts.live(live), NOW, before=before)


@pytest.mark.parametrize("place", range(len(REASONS)))
def test_the_first_reason_that_holds_is_told(place: int) -> None:
    """Alone, and with everything that would stop it later as well."""
    found, live, told = REASONS[place]
    assert ask(found, live) == facts.waiting(told)
    for more, also, _ in REASONS[place + 1 :]:
        found, live = {**more, **found}, {**also, **live}
    assert ask(found, live) == facts.waiting(told)


@pytest.mark.parametrize(
    "live",
    [
        {"throttled_until": NOW},
        {"throttled_until": None},
        {"stopped_groups": [{"group": "s2", "until": NOW + 3, "reason": "429"}]},
        {"stopped_groups": [{"group": "s1", "until": NOW, "reason": "429"}]},
    ],
)
def test_what_is_over_or_anothers_is_no_reason(live: dict[str, Any]) -> None:
    """A stop whose time has come, and one of another shop."""
    assert ask({"group": "s1", "due_at": NOW}, live) == facts.waiting({"for": "slot"})


def test_a_platform_that_is_gone_says_so() -> None:
    """It is no longer in the configuration: to resume it is no remedy."""
    waiting = ask({}, {"paused": True, "removed": True, "pause_reason": "gone"})
    assert waiting == facts.waiting({"for": "paused", "reason": "gone", "removed": True})
