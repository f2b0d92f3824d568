"""The checker of the end-to-end tests: a clean run passes, and each kind of bad log is found by its own check."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from relay.core.model import Rate
from tests.e2e.checker import CHECKS, Asked, Evidence, Posted, check

CLEAN = {"accepted": 4, "delivered": 4, "dead": 0, "expired": 0, "superseded": 0, "pending": 0, "unaccounted": 0}


def arrival(n: int, at: float, items: str, **more: Any) -> dict[str, Any]:
    """Build a request of one-letter items."""
    return {
        "n": n, "at": at, "batch": f"b{n}", "items": list(items), "count": len(items), "raw": 100, "answer": "200",
        "applied": True, "delay": 0.0, "sent": at, "ended": at + 0.1,
    } | more  # fmt: skip


class Run:
    """A clean run of four callbacks, two keys; tests spoil one thing in it."""

    def __init__(self) -> None:
        self.posted = [
            Posted(number, post, key, f"k{number}", digest, 202, f"id-{digest}")
            for number, (post, key, digest) in enumerate([(0, "A", "a"), (1, "B", "b"), (2, "A", "c"), (2, "B", "d")])
        ]
        self.arrivals = [arrival(1, 10.0, "ab"), arrival(2, 11.0, "cd")]
        self.stored = [{"id": f"id-{digest}", "state": "delivered"} for digest in "abcd"]
        self.ledgers: list[dict[str, Any]] = [{"total": dict(CLEAN), "platforms": {"shop": dict(CLEAN)}}]
        self.kills: list[float] = []
        self.rates = [Rate(2, 1.0)]
        self.more: dict[str, Any] = {"concurrency": 1, "backoff_s": 1.0, "secrets": [b"138"], "texts": {"log": b"12"}}

    def evidence(self) -> Evidence:
        """Return what the checker reads."""
        return Evidence(
            self.posted, self.arrivals, self.stored, self.ledgers, self.kills, self.rates, max_items=2, max_bytes=1000,
            **self.more,
        )  # fmt: skip


def test_a_clean_run_breaks_nothing() -> None:
    """The base of all other cases is found good."""
    assert check(Run().evidence()) == {}


def lose(run: Run) -> None:
    """Forget an accepted callback."""
    del run.stored[2]


def store_twice(run: Run) -> None:
    """Keep one callback twice."""
    run.stored.append(run.stored[0])


def unknown_state(run: Run) -> None:
    """Invent a state."""
    run.stored[0]["state"] = "lost"


def tear_a_post(run: Run) -> None:
    """Take half of a post that got no answer."""
    run.posted[2:] = [Posted(p.n, p.post, p.key, p.idempotency_key, p.digest, None) for p in run.posted[2:]]
    run.arrivals[1] = arrival(2, 11.0, "c")


def count_too_many(run: Run) -> None:
    """Count a callback nobody posted."""
    run.ledgers[-1]["total"] |= {"accepted": 5, "delivered": 5}


def repeat_in_the_spool(run: Run, *, repeats: int) -> None:
    """Supersede a callback by its first, of which the poster was told nothing."""
    run.posted[3] = replace(run.posted[3], id="id-e", repeats=repeats)
    run.stored.append({"id": "id-e", "state": "superseded", "reason": "repeated"})
    run.ledgers[-1]["total"] |= {"accepted": 5, "superseded": 1}


def test_a_repeat_may_count_beside_the_first_whose_answer_was_lost() -> None:
    """It is superseded by that first one; where nothing was repeated there is no such excuse."""
    run = Run()
    repeat_in_the_spool(run, repeats=1)
    assert check(run.evidence()) == {}
    run = Run()
    repeat_in_the_spool(run, repeats=0)
    assert list(check(run.evidence())) == ["I2 unknown is allowed"]


def invent(run: Run) -> None:
    """Send an item nobody posted."""
    run.arrivals.append(arrival(3, 13.0, "x"))


def deliver_what_was_refused(run: Run) -> None:
    """Send what was answered 422."""
    run.posted[3] = Posted(3, 3, "B", "k3", "d", 422)


def claim_delivery(run: Run) -> None:
    """Call delivered what drew a 500."""
    run.arrivals[1] |= {"answer": "500", "applied": False}


def claim_delivery_after_reset(run: Run) -> None:
    """Call delivered what drew no answer."""
    run.arrivals[1] |= {"answer": "apply-then-reset"}


def claim_delivery_of_a_refused_item(run: Run) -> None:
    """Call delivered what the answer refused by itself."""
    run.arrivals[1]["failed"] = ["d"]


def die_for_nothing(run: Run) -> None:
    """End one as dead that no answer was against."""
    run.stored[0] |= {"state": "dead", "reason": "rejected"}


def expire_early(run: Run) -> None:
    """End one as expired before its time."""
    run.stored[0] |= {"state": "expired", "reason": "expired", "ended_at": 20.0, "expires_at": 21.0}


def expire_early_as_the_api_tells(run: Run) -> None:
    """The same, its times as text."""
    times = {"ended_at": "2026-11-29T20:00:00.000Z", "expires_at": "2026-11-29T20:00:01.000Z"}
    run.stored[0] |= {"state": "expired", "reason": "expired", **times}


def supersede_by_nothing(run: Run) -> None:
    """End the last of a key as superseded."""
    run.stored[3] |= {"state": "superseded", "reason": ""}


def open_two_at_once(run: Run) -> None:
    """Begin a request before the one before it has ended."""
    run.arrivals[0]["ended"] = 11.05


def send_again_at_once(run: Run) -> None:
    """Send a batch again without a wait."""
    run.arrivals[0] |= {"answer": "500", "applied": False}
    run.arrivals.append(arrival(3, 10.2, "ab", batch="b1"))


def ignore_a_wait(run: Run) -> None:
    """Send before the wait is over that the platform asked for."""
    run.arrivals[0] |= {"answer": "429+retry-after", "retry_after": 3}


def accept_without_a_disk(run: Run) -> None:
    """Answer 202 while nothing reaches the disk."""
    run.more |= {"deaf": [(5.0, 9.0)], "asked": [Asked(6.0, 6.1, 202)]}


def refuse_late(run: Run) -> None:
    """Let a client wait while nothing reaches the disk."""
    run.more |= {"deaf": [(5.0, 9.0)], "asked": [Asked(6.0, 7.1, 503)]}


def never_end(run: Run) -> None:
    """Leave one pending."""
    run.more["waiting"] = ["id-a"]


def tell_a_secret(run: Run) -> None:
    """Log a phone number."""
    run.more["texts"] = {"log": b"call 13800138000"}


def overtake(run: Run) -> None:
    """Send the later callback of a key first."""
    run.arrivals = [arrival(1, 10.0, "cb"), arrival(2, 11.0, "ad")]


def overtake_within_a_request(run: Run) -> None:
    """Pack two of a key into one request."""
    run.arrivals = [arrival(1, 10.0, "ca"), arrival(2, 11.0, "bd")]


def overtake_one_that_waits(run: Run) -> None:
    """Send a later one while the first of its key waits."""
    run.arrivals = [arrival(1, 10.0, "b"), arrival(2, 11.0, "cd")]
    run.stored[0]["state"] = "pending"


def repeat(run: Run) -> None:
    """Send a batch again for no reason."""
    run.arrivals.append(arrival(3, 13.0, "ab", batch="b1"))


def repeat_more_than_excused(run: Run) -> None:
    """Send a batch three times with one crash."""
    run.arrivals += [arrival(3, 13.0, "ab", batch="b1"), arrival(4, 15.0, "ab", batch="b1")]
    run.kills = [12.0]


def exceed_the_rate(run: Run) -> None:
    """Send a third request just inside the window."""
    run.arrivals[1]["at"] = 10.9999
    run.arrivals.append(arrival(3, 10.5, ""))


def overfill(run: Run) -> None:
    """Pack three where two are allowed."""
    run.arrivals = [arrival(1, 10.0, "ab"), arrival(2, 11.0, "cda")]


def outgrow(run: Run) -> None:
    """Send one byte too many."""
    run.arrivals[0]["raw"] = 1001


def regroup(run: Run) -> None:
    """Use one batch id for two memberships."""
    run.arrivals[1]["batch"] = "b1"


def regroup_what_may_be_applied(run: Run) -> None:
    """Send what drew a 500 again under another id."""
    run.arrivals[0] |= {"answer": "500", "applied": True}
    run.arrivals.append(arrival(3, 13.0, "ab"))


def unnamed(run: Run) -> None:
    """Send a batch without an id."""
    run.arrivals[1]["batch"] = None


def leak(run: Run) -> None:
    """Count one callback in two states."""
    run.ledgers.insert(0, {"total": CLEAN | {"pending": 1}, "platforms": {}})


def admit_unaccounted(run: Run) -> None:
    """Leave one callback unaccounted for."""
    run.ledgers[0]["platforms"]["shop"]["unaccounted"] = 1


@pytest.mark.parametrize(
    ("spoil", "invariant"),
    [
        (lose, "I1"), (store_twice, "I1"), (unknown_state, "I1"), (tear_a_post, "I2"), (count_too_many, "I2"),
        (invent, "I3"), (deliver_what_was_refused, "I3"), (claim_delivery, "I4"), (claim_delivery_after_reset, "I4"),
        (overtake, "I6"), (overtake_within_a_request, "I6"), (overtake_one_that_waits, "I6"), (repeat, "I7"),
        (repeat_more_than_excused, "I7"), (exceed_the_rate, "I8"), (overfill, "I10"), (outgrow, "I10"),
        (claim_delivery_of_a_refused_item, "I4"), (die_for_nothing, "I5"), (expire_early, "I5"),
        (expire_early_as_the_api_tells, "I5"),
        (supersede_by_nothing, "I5"), (open_two_at_once, "I9"), (send_again_at_once, "I11"), (ignore_a_wait, "I11"),
        (accept_without_a_disk, "I12"), (refuse_late, "I12"), (never_end, "I13"), (tell_a_secret, "I15"),
        (regroup, "I10"), (regroup_what_may_be_applied, "I10"), (unnamed, "I10"),
        (leak, "I14"), (admit_unaccounted, "I14"),
    ],
)  # fmt: skip
def test_each_kind_of_bad_log_is_found(spoil: Callable[[Run], None], invariant: str) -> None:
    """Spoiling one thing makes the check of that invariant speak."""
    run = Run()
    spoil(run)
    assert invariant in {name.split()[0] for name in check(run.evidence())}


@pytest.mark.parametrize("answer", ["reset", "apply-then-reset", "500", "apply-then-hang", "408", "truncate"])
def test_an_ambiguous_attempt_excuses_a_repeat(answer: str) -> None:
    """After an answer that tells nothing, the same batch may be applied once more."""
    run = Run()
    run.arrivals[0]["answer"] = answer
    run.arrivals.append(arrival(3, 13.0, "ab", batch="b1"))
    assert "I7 bounded repeats" not in check(run.evidence())


def test_a_crash_excuses_a_repeat_only_around_it() -> None:
    """A kill between two applications explains the second; a kill after both does not."""
    run = Run()
    run.arrivals.append(arrival(3, 13.0, "ab", batch="b1"))
    run.kills = [12.0]
    assert "I7 bounded repeats" not in check(run.evidence())
    run.kills = [14.0]
    assert "I7 bounded repeats" in check(run.evidence())


def test_a_whole_post_without_an_answer_is_allowed_either_way() -> None:
    """Unknown and wholly there, or unknown and wholly absent: both are in order."""
    run = Run()
    run.posted[2:] = [Posted(p.n, p.post, p.key, p.idempotency_key, p.digest, None) for p in run.posted[2:]]
    assert check(run.evidence()) == {}
    del run.arrivals[1]
    run.stored = run.stored[:2]
    for row in (run.ledgers[0]["total"], run.ledgers[0]["platforms"]["shop"]):
        row |= {"accepted": 2, "delivered": 2}
    assert check(run.evidence()) == {}


def test_every_check_names_its_invariant() -> None:
    """The list is the one the specification asks for."""
    assert [name.split()[0] for name in CHECKS] == [f"I{number}" for number in range(1, 16)]
