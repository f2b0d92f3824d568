"""Judges a run by what its three witnesses wrote down: the poster, the platform and the store.

Each function checks one invariant of docs/spec.md section 7 and returns its violations as sentences; none means it
held. Payloads must be unique, for a payload's digest is its name here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.core.model import Rate

FINAL = ("delivered", "dead", "expired", "superseded")
AMBIGUOUS = ("reset", "hang", "truncate", "408")  # besides 5xx: the relay cannot know whether it was applied

LAG_S = 1.0  # a request sent just before a kill is seen by a busy platform so much later at the most


@dataclass(frozen=True, slots=True)
class Posted:
    """One callback as the poster saw it. ``status`` is None when no answer came; ``post`` groups one request.

    ``repeats``: how often it was posted again because no clear answer came.
    """

    n: int
    post: int
    key: str | None
    idempotency_key: str
    digest: str
    status: int | None
    id: str | None = None
    repeats: int = 0

    @property
    def accepted(self) -> bool:
        """Whether the relay answered 202."""
        return self.status == 202

    @property
    def unknown(self) -> bool:
        """Whether nobody can say from the answer if it was taken."""
        return self.status is None or self.status >= 500


@dataclass(slots=True)
class Evidence:
    """Everything a run left behind, read after quiescence.

    ``posted`` is in the poster's order, which per key is the order of acceptance. ``ledgers`` are readings of
    ``/v1/ledger`` at any time, the last one at the end. ``kills`` are boot times in seconds, as arrivals' ``at``.
    """

    posted: Sequence[Posted]
    arrivals: Sequence[Mapping[str, Any]]
    stored: Sequence[Mapping[str, Any]]
    ledgers: Sequence[Mapping[str, Any]]
    kills: Sequence[float] = ()
    rates: Sequence[Rate] = ()
    max_items: int = 100
    max_bytes: int = 2 * 2**20
    timeout_s: float = 10.0
    by_time: list[Mapping[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_time = sorted(self.arrivals, key=lambda arrival: arrival["at"])


def no_loss(run: Evidence) -> list[str]:
    """I1: every callback answered 202 is stored once, in a final state or pending."""
    rows = defaultdict(list)
    for row in run.stored:
        rows[row["id"]].append(row["state"])
    found = []
    for posted in run.posted:
        if not posted.accepted:
            continue
        states = rows.get(posted.id or "", [])
        if len(states) != 1:
            found.append(f"callback {posted.id} (n {posted.n}) was answered 202 and is stored {len(states)} times")
        elif states[0] not in (*FINAL, "pending"):
            found.append(f"callback {posted.id} is in the unknown state {states[0]!r}")
    return found


def unknown_is_whole(run: Evidence) -> list[str]:
    """I2: a post without a clear answer is wholly there or not at all, and nothing else was taken.

    Where an answer was lost and the repeat came to a spool, it finds the first when it drains and is superseded by it:
    the ledger counts both, and the poster knows the second alone.
    """
    arrived = _arrived(run)
    posts = defaultdict(list)
    for posted in run.posted:
        posts[posted.post].append(posted)
    found = []
    present = 0
    for number, items in posts.items():
        if not items[0].unknown:
            continue
        there = sum(item.digest in arrived for item in items)
        present += there
        if there not in (0, len(items)):
            found.append(f"post {number} got no clear answer and {there} of its {len(items)} callbacks are there")
    repeated = {row["id"] for row in run.stored if (row["state"], row.get("reason")) == ("superseded", "repeated")}
    firsts = sum(posted.repeats > 0 and posted.id in repeated for posted in run.posted)
    taken = len({posted.id for posted in run.posted if posted.accepted}) + present + firsts
    total = run.ledgers[-1]["total"]["accepted"] if run.ledgers else taken
    if total != taken:
        found.append(f"the ledger counts {total} accepted; the poster knows of {taken}")
    return found


def no_invention(run: Evidence) -> list[str]:
    """I3: every item the platform got was posted and not refused, byte for byte."""
    known = {posted.digest for posted in run.posted if posted.accepted or posted.unknown}
    return [
        f"request {arrival['n']} holds an item nobody posted: {name}"
        for arrival in run.arrivals
        for name in arrival["items"]
        if name not in known
    ]


def delivered_is_true(run: Evidence) -> list[str]:
    """I4: what is stored as delivered was in a request that the platform applied and answered with success."""
    confirmed = {name for arrival in run.arrivals if arrival["answer"] == "200" for name in arrival["items"]}
    digests = {posted.id: posted.digest for posted in run.posted if posted.accepted}
    return [
        f"callback {row['id']} is delivered, but no success of the platform names it"
        for row in run.stored
        if row["state"] == "delivered" and row["id"] in digests and digests[row["id"]] not in confirmed
    ]


def order(run: Evidence) -> list[str]:
    """I6: per key, first arrivals follow acceptance, nothing is overtaken, and no request holds a key twice."""
    first: dict[str, tuple[float, int]] = {}
    keys = {posted.digest: posted.key for posted in run.posted if posted.key is not None}
    found = []
    for arrival in run.by_time:
        for index, name in enumerate(arrival["items"]):
            first.setdefault(name, (arrival["at"], index))
        counts = Counter(keys[name] for name in arrival["items"] if name in keys)
        found += [f"request {arrival['n']} holds {n} of key {key}" for key, n in counts.items() if n > 1]
    states = {row["id"]: row["state"] for row in run.stored}
    latest: dict[str, Posted] = {}
    waiting: dict[str, Posted] = {}
    for posted in run.posted:
        if posted.key is None:
            continue
        if posted.digest not in first:
            if posted.accepted and states.get(posted.id or "") in ("pending", None):
                waiting.setdefault(posted.key, posted)
            continue
        if posted.key in waiting:
            found.append(f"key {posted.key}: n {posted.n} arrived, n {waiting[posted.key].n} before it never did")
        before = latest.get(posted.key)
        if before is not None and first[before.digest] >= first[posted.digest]:
            found.append(f"key {posted.key}: n {posted.n} arrived before n {before.n}, accepted earlier")
        latest[posted.key] = posted
    return found


def bounded_repeats(run: Evidence) -> list[str]:
    """I7: an item is applied once, and once more for each ambiguous attempt and each crash while it was about."""
    seen = defaultdict(list)
    for arrival in run.by_time:
        for name in arrival["items"]:
            seen[name].append(arrival)
    found = []
    for name, arrivals in seen.items():
        applied = [arrival for arrival in arrivals if arrival["applied"]]
        if len(applied) < 2:
            continue
        excuses = sum(_ambiguous(arrival, run.timeout_s) for arrival in arrivals[:-1])
        excuses += sum(applied[0]["at"] - LAG_S <= kill <= applied[-1]["at"] for kill in run.kills)
        if len(applied) > 1 + excuses:
            found.append(f"item {name} was applied {len(applied)} times with {excuses} ambiguous attempts and crashes")
    return found


def rate(run: Evidence) -> list[str]:
    """I8: no window of any configured length holds more arrivals than its limit."""
    times = [arrival["at"] for arrival in run.by_time]
    return [
        f"{limit}: {limit.limit + 1} requests within {last - start:.6f} s from {start:.6f}"
        for limit in run.rates
        for start, last in zip(times, times[limit.limit :], strict=False)
        if last - start < limit.window_s
    ]


def batches(run: Evidence) -> list[str]:
    """I10: requests keep max_items and max_bytes, and a batch id always names the same items."""
    found = []
    members: dict[str, list[str]] = {}
    for arrival in run.by_time:
        if arrival["answer"] == "cut":
            continue
        if not 1 <= arrival["count"] <= run.max_items:
            found.append(f"request {arrival['n']} holds {arrival['count']} items, limit {run.max_items}")
        if arrival["raw"] > run.max_bytes:
            found.append(f"request {arrival['n']} has {arrival['raw']} bytes, limit {run.max_bytes}")
        batch = arrival.get("batch")
        if not batch:
            found.append(f"request {arrival['n']} names no batch")
        elif members.setdefault(batch, arrival["items"]) != arrival["items"]:
            found.append(f"batch {batch} was sent again with other items in request {arrival['n']}")
    return found


def conservation(run: Evidence) -> list[str]:
    """I14: at every reading accepted is the sum of the states, and nothing is unaccounted for."""
    found = []
    for number, ledger in enumerate(run.ledgers):
        for name, row in [("total", ledger["total"]), *ledger["platforms"].items()]:
            total = sum(row[state] for state in (*FINAL, "pending"))
            if row["accepted"] != total or row["unaccounted"] != 0:
                found.append(
                    f"reading {number}, {name}: accepted {row['accepted']}, "
                    f"states {total}, unaccounted {row['unaccounted']}"
                )
    return found


CHECKS = {
    "I1 no loss": no_loss,
    "I2 unknown is allowed": unknown_is_whole,
    "I3 no invention": no_invention,
    "I4 delivered is true": delivered_is_true,
    "I6 order": order,
    "I7 bounded repeats": bounded_repeats,
    "I8 rate": rate,
    "I10 batches": batches,
    "I14 conservation": conservation,
}


def check(run: Evidence) -> dict[str, list[str]]:
    """Run every check; only invariants that were broken are in the answer."""
    return {name: found for name, judge in CHECKS.items() if (found := judge(run))}


def _arrived(run: Evidence) -> set[str]:
    names: Iterable[str] = (name for arrival in run.arrivals for name in arrival["items"])
    return set(names)


def _ambiguous(arrival: Mapping[str, Any], timeout_s: float) -> bool:
    kind = str(arrival["answer"]).removeprefix("apply-then-")
    if arrival.get("delay", 0.0) >= timeout_s or kind in AMBIGUOUS:
        return True
    return kind.startswith("5") and kind != "503+retry-after"
