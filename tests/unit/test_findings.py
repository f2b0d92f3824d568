"""The demo's claims are counted, not asserted: each can fail, and a bad run makes it."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from relay.demo.findings import Finding, Posting, count_order_violations, count_repeats, findings
from relay.standin.arrivals import Arrival
from relay.standin.bodies import digest
from relay.standin.orders import STATUSES, OrderCallback, order_callbacks

POSTED = [callback for life in order_callbacks(20, seed=1) for callback in life]


def arrival(at: float, callbacks: list[OrderCallback]) -> Arrival:
    """Build a request that was applied."""
    return Arrival(
        n=1,
        at=at,
        wall=at,
        method="POST",
        path="/",
        batch=f"b{at:g}",
        attempt="1",
        count=len(callbacks),
        items=[digest(each.payload) for each in callbacks],
        raw=8_000,
        wire=700,
        encoding="gzip",
        answer="200",
        applied=True,
    )


class Run:
    """A good run: one request per step of all orders."""

    def __init__(self) -> None:
        steps = [[each for each in POSTED if each.step == step] for step in range(len(STATUSES))]
        self.arrivals = [arrival(at, step) for at, step in enumerate(steps)]
        self.figures: dict[str, Any] = {
            "requests": 6, "rejected": 0, "distinct": 120, "peaks": {"60": 6}, "raw_bytes": 48_000, "wire_bytes": 4_000,
        }  # fmt: skip
        self.ledger = dict.fromkeys(("dead", "expired", "superseded", "pending", "unaccounted"), 0)
        self.ledger |= {"accepted": 120, "delivered": 120}

    def judge(self) -> list[Finding]:
        """Return the findings with a limit of six."""
        return findings(Posting(POSTED, accepted=120, repeated=3), self.arrivals, self.figures, self.ledger, limit=6)


def test_payloads_look_like_orders_and_are_unique() -> None:
    """About 400 bytes each, no two alike, the same for the same seed."""
    sizes = [len(each.payload) for each in POSTED]
    assert 330 < sum(sizes) / len(sizes) < 450
    assert len({each.payload for each in POSTED}) == len(POSTED) == 120
    assert [callback for life in order_callbacks(20, seed=1) for callback in life] == POSTED


def test_a_good_run_holds() -> None:
    """Every claim holds when nothing went wrong."""
    assert [finding.name for finding in Run().judge() if not finding.holds] == []


def lose(run: Run) -> None:
    """Deliver one less than was accepted."""
    run.ledger["delivered"] -= 1
    run.ledger["unaccounted"] = 1


def take_twice(run: Run) -> None:
    """Queue a repeated post twice."""
    run.ledger["accepted"] += 1
    run.ledger["pending"] = 1


def change_a_byte(run: Run) -> None:
    """Deliver something nobody posted."""
    run.arrivals[0].items[0] = digest(b"{}")


def exceed(run: Run) -> None:
    """Send seven requests in a minute."""
    run.figures["peaks"]["60"] = 7


def knock(run: Run) -> None:
    """Have a request turned away."""
    run.figures["rejected"] = 1


def overtake(run: Run) -> None:
    """Send the second statuses before the first ones."""
    run.arrivals[0].at = 1.5


def regroup(run: Run) -> None:
    """Send what was applied again under a new batch id."""
    run.arrivals.append(replace(run.arrivals[0], at=9.0, batch="b9"))


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lose, {"callbacks delivered", "ledger", "unaccounted"}),
        (take_twice, {"callbacks in"}),
        (change_a_byte, {"callbacks delivered", "order violations"}),
        (exceed, {"peak in any 60 s"}),
        (knock, {"turned away"}),
        (overtake, {"order violations"}),
        (regroup, {"duplicates"}),
    ],
)
def test_a_bad_run_fails_its_claim(spoil: Callable[[Run], None], names: set[str]) -> None:
    """Spoiling one thing fails the claims about it and no other."""
    run = Run()
    spoil(run)
    assert {finding.name for finding in run.judge() if not finding.holds} == names


def test_a_batch_sent_again_whole_is_an_explained_duplicate() -> None:
    """Same id and same members after a crash: counted, and in order."""
    run = Run()
    run.arrivals.insert(1, replace(run.arrivals[0], at=0.5))
    assert count_repeats(run.arrivals) == (1, 20, 0)
    assert count_order_violations(POSTED, run.arrivals) == 0
