"""Judges a run by what its three witnesses wrote down: the poster, the platform and the store.

Each function checks one invariant of docs/spec.md section 7 and returns its violations as sentences; none means it
held. Payloads must be unique, for a payload's digest is its name here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from relay.core.model import Rate

FINAL = ("delivered", "dead", "expired", "superseded")
AMBIGUOUS = ("reset", "hang", "truncate", "408")  # besides 5xx: the relay cannot know whether it was applied

EARLY_S = 0.001  # what rounding may do to a time
ANSWER_S = 1.0  # I12
LAG_S = 2.0  # a request sent just before a kill is seen by a busy platform so much later at the most


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


class Asked(NamedTuple):
    """One request to the relay as its client saw it. ``status`` None: no answer came."""

    began_s: float
    ended_s: float
    status: int | None
    replayed: bool = False


@dataclass(slots=True)
class Evidence:
    """Everything a run left behind, read after quiescence.

    ``posted`` is in the poster's order, which per key is the order of acceptance. ``ledgers`` are readings of
    ``/v1/ledger`` at any time, the last one at the end. ``kills`` are boot times in seconds, as arrivals' ``at``.
    """

    posted: Sequence[Posted]
    arrivals: Sequence[Mapping[str, Any]]  # ``failed`` are the items that the answer refused one by one
    stored: Sequence[Mapping[str, Any]]  # with ``digest`` where the poster does not know the id
    ledgers: Sequence[Mapping[str, Any]]
    kills: Sequence[float] = ()
    rates: Sequence[Rate] = ()
    max_items: int = 100
    max_bytes: int = 2 * 2**20
    timeout_s: float = 10.0
    # What only a simulation can see; None or empty: not looked at.
    concurrency: int | None = None  # arrivals have ``sent`` and ``ended``
    backoff_s: float | None = None  # the first wait before a re-send, of which at least half is kept
    commit_s: float = 0.0  # the slowest commit: a request that is being recorded when an answer comes still goes
    unconnected: Sequence[float] = ()  # when a request met no connection
    asked: Sequence[Asked] = ()
    deaf: Sequence[tuple[float, float]] = ()  # while no write reached the disk
    waiting: Sequence[str] | None = None  # what had not ended in time, though it waited for nobody
    secrets: Sequence[bytes] = ()
    texts: Mapping[str, bytes] = field(default_factory=dict)  # logs, metrics, files of a sealed store
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
    arrived = _arrived(run) | {row["digest"] for row in run.stored if "digest" in row}
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
    confirmed = {name for arrival in run.arrivals if arrival["answer"] == "200" for name in _taken(arrival)}
    digests = {posted.id: posted.digest for posted in run.posted if posted.accepted}
    return [
        f"callback {row['id']} is delivered, but no success of the platform names it"
        for row in run.stored
        if row["state"] == "delivered" and row["id"] in digests and digests[row["id"]] not in confirmed
    ]


def other_ends(run: Evidence) -> list[str]:
    """I5: who died was refused or had its re-sends, who expired was late, who was superseded has a successor."""
    digests = {posted.id: posted for posted in run.posted if posted.accepted}
    against = [one for one in run.arrivals if one["answer"] != "200" or _ambiguous(one, run.timeout_s)]
    bad = {name for arrival in against for name in arrival["items"]}
    bad |= {name for arrival in run.arrivals for name in arrival.get("failed", ())}
    last = {posted.key: posted.n for posted in run.posted if posted.accepted or posted.unknown}
    found = []
    for row in run.stored:
        posted = digests.get(row["id"])
        if posted is None or "reason" not in row:
            continue
        if row["state"] == "dead" and posted.digest not in bad:
            found.append(f"callback {row['id']} is dead ({row['reason']}), but no answer was against it")
        elif row["state"] == "expired" and (early_s := _at(row["expires_at"]) - _at(row["ended_at"])) > EARLY_S:
            found.append(f"callback {row['id']} expired {early_s:.3f} s early")
        elif row["state"] == "superseded" and row["reason"] != "repeated" and last[posted.key] <= posted.n:
            found.append(f"callback {row['id']} was superseded, but nothing came after it")
    return found


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
        applied = [arrival for arrival in arrivals if arrival["applied"] and name not in arrival.get("failed", ())]
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


def concurrency(run: Evidence) -> list[str]:
    """I9: never more requests open than allowed. A crash closes all that are."""
    if run.concurrency is None:
        return []
    changes = []
    for arrival in run.arrivals:
        ended = min([arrival["ended"], *(kill for kill in run.kills if kill > arrival["sent"])])
        changes += [(arrival["sent"], 1), (ended, -1)]
    opened = 0
    found = []
    for at, change in sorted(changes):
        opened += change
        if change > 0 and opened > run.concurrency:
            found.append(f"{opened} requests were open at {at:.6f}, limit {run.concurrency}")
    return found


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
    return found + ([] if run.backoff_s is None else _regrouped(run))


def _regrouped(run: Evidence) -> list[str]:
    """Find what went again in another batch, though the platform may have applied it: it keeps its id.

    A request in between that met no connection puts its callbacks back into the queue, where they may be regrouped.
    """
    last: dict[str, Mapping[str, Any]] = {}
    found = []
    for arrival in run.by_time:
        for name in arrival["items"]:
            before, last[name] = last.get(name), arrival
            if before is None or before["batch"] == arrival["batch"] or not _ambiguous(before, run.timeout_s):
                continue
            if not any(before["at"] < at < arrival["at"] for at in run.unconnected):
                found.append(f"item {name} may have been applied in {before['batch']}, and went in {arrival['batch']}")
    return found


def backoff(run: Evidence) -> list[str]:
    """I11: a batch waits before it is sent again, and a wait that the platform asked for is kept."""
    found = []
    before: dict[str, Mapping[str, Any]] = {}
    waits: list[tuple[float, float, int]] = []
    for arrival in sorted((one for one in run.arrivals if "sent" in one), key=lambda one: one["sent"]):
        sent = arrival["sent"]
        found += [
            f"request {arrival['n']} went {until - sent:.3f} s before the wait was over that request {by} was told"
            for told, until, by in waits
            if told + 2 * run.commit_s < sent < until - EARLY_S
        ]
        last = before.get(arrival["batch"])
        if (
            last is not None
            and run.backoff_s is not None
            and not any(last["sent"] <= kill <= sent for kill in run.kills)
        ):
            gap = sent - last["ended"]
            if _ambiguous(last, run.timeout_s) and gap < run.backoff_s / 2 - EARLY_S:
                found.append(f"batch {arrival['batch']} was sent again after {gap:.3f} s")
        before[arrival["batch"]] = arrival
        if "retry_after" in arrival and not any(
            sent <= kill <= arrival["ended"] + LAG_S + run.commit_s for kill in run.kills
        ):
            waits.append((arrival["ended"], arrival["ended"] + arrival["retry_after"], arrival["n"]))
    return found


def honest_refusal(run: Evidence) -> list[str]:
    """I12: while no write reaches the disk nothing new is answered 202, and every answer comes within a second."""
    found = []
    for start, end in run.deaf:
        for asked in run.asked:
            if asked.began_s < start or asked.ended_s > end or asked.status is None:
                continue
            if asked.status == 202 and not asked.replayed:
                found.append(f"a post at {asked.began_s:.3f} s was answered 202 while no write reached the disk")
            if asked.ended_s - asked.began_s > ANSWER_S:
                found.append(
                    f"a post at {asked.began_s:.3f} s was answered after {asked.ended_s - asked.began_s:.3f} s"
                )
    return found


def liveness(run: Evidence) -> list[str]:
    """I13: when all trouble is over, everything ends in time, except what waits for a person."""
    return [f"{one} had not ended in time" for one in run.waiting or ()]


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


def privacy(run: Evidence) -> list[str]:
    """I15: no value of a payload and no secret stands in a log, a metric, an error or a sealed store."""
    return [
        f"{name} holds a secret" for name, text in run.texts.items() if any(secret in text for secret in run.secrets)
    ]


CHECKS = {
    "I1 no loss": no_loss,
    "I2 unknown is allowed": unknown_is_whole,
    "I3 no invention": no_invention,
    "I4 delivered is true": delivered_is_true,
    "I5 other ends are justified": other_ends,
    "I6 order": order,
    "I7 bounded repeats": bounded_repeats,
    "I8 rate": rate,
    "I9 concurrency": concurrency,
    "I10 batches": batches,
    "I11 backoff": backoff,
    "I12 honest refusal": honest_refusal,
    "I13 liveness": liveness,
    "I14 conservation": conservation,
    "I15 privacy": privacy,
}


def check(run: Evidence) -> dict[str, list[str]]:
    """Run every check; only invariants that were broken are in the answer."""
    return {name: found for name, judge in CHECKS.items() if (found := judge(run))}


def _at(told: float | str) -> float:
    """Return a time that a store, or the API as text, told."""
    return datetime.fromisoformat(told).timestamp() if isinstance(told, str) else told


def _arrived(run: Evidence) -> set[str]:
    names: Iterable[str] = (name for arrival in run.arrivals for name in arrival["items"])
    return set(names)


def _taken(arrival: Mapping[str, Any]) -> list[str]:
    return [name for name in arrival["items"] if name not in arrival.get("failed", ())]


def _ambiguous(arrival: Mapping[str, Any], timeout_s: float) -> bool:
    kind = str(arrival["answer"]).removeprefix("apply-then-")
    if arrival.get("delay", 0.0) >= timeout_s or kind in AMBIGUOUS:
        return True
    if arrival.get("unreadable"):
        return True
    return kind.startswith("5") and kind != "503+retry-after"
