"""Judges a demo run: facts from the platform's log and the relay's ledger, each with its verdict."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relay.core.raw import JsonObject
from relay.standin.arrivals import Arrival
from relay.standin.bodies import digest
from relay.standin.orders import OrderCallback


class Finding(NamedTuple):
    """One measured fact, its meaning, and whether it is as promised."""

    name: str
    value: str
    meaning: str
    holds: bool


class Repeats(NamedTuple):
    """Batches that arrived more than once, and the callbacks that the platform applied twice because of them."""

    batches: int
    callbacks: int
    unexplained: int  # applied twice, but not by a re-send of the same batch with the same members


class Posting(NamedTuple):
    """What the order center did: its callbacks, the posts answered 202, and the posts it repeated."""

    callbacks: Sequence[OrderCallback]
    accepted: int
    repeated: int


def findings(
    posting: Posting,
    arrivals: Sequence[Arrival],
    figures: JsonObject,
    ledger: Mapping[str, int],
    *,
    limit: int,
) -> list[Finding]:
    """Judge a run. ``figures`` are the platform's totals, ``ledger`` those of the relay."""
    return [
        *_counted(posting, arrivals, figures, ledger),
        *_at_the_platform(posting, arrivals, figures, limit=limit),
        *_in_the_ledger(ledger),
    ]


def _counted(
    posting: Posting,
    arrivals: Sequence[Arrival],
    figures: JsonObject,
    ledger: Mapping[str, int],
) -> list[Finding]:
    total = len(posting.callbacks)
    return [
        Finding(
            "callbacks in",
            f"{posting.accepted:,}",
            f"each answered 202 from disk; {posting.repeated:,} posts repeated around the kill, none queued twice",
            posting.accepted == total == ledger["accepted"],
        ),
        Finding(
            "callbacks delivered",
            f"{ledger['delivered']:,}",
            f"{figures['distinct']:,} different ones at the platform, byte for byte",
            ledger["delivered"] == total == figures["distinct"] and _same_bytes(posting.callbacks, arrivals),
        ),
        Finding(
            "requests used",
            f"{figures['requests']:,}",
            f"instead of {total:,}; {total / max(1, figures['requests']):.0f} callbacks a request",
            0 < figures["requests"] < total / 10,
        ),
    ]


def _at_the_platform(
    posting: Posting, arrivals: Sequence[Arrival], figures: JsonObject, *, limit: int
) -> list[Finding]:
    repeats = count_repeats(arrivals)
    violations = count_order_violations(posting.callbacks, arrivals)
    raw, wire = figures["raw_bytes"], figures["wire_bytes"]
    peak = figures["peaks"]["60"]
    again = f"after the kill: {repeats.batches} batches without an answer re-sent whole, under the old id"
    if repeats.batches == 1:
        again = "after the kill: 1 batch without an answer re-sent whole, under the old id"
    return [
        Finding("peak in any 60 s", f"{peak:,}", f"as the platform saw it; its limit is {limit}", peak <= limit),
        Finding(
            "turned away", f"{figures['rejected']:,}", "requests above the platform's limit", not figures["rejected"]
        ),
        Finding("order violations", f"{violations:,}", "statuses that overtook an earlier one", violations == 0),
        Finding(
            "duplicates",
            f"{repeats.callbacks:,}",
            again,
            repeats.unexplained == 0,
        ),
        Finding(
            "bytes",
            f"{raw / 1000:,.0f} kB",
            f"raw, {wire / 1000:,.0f} kB on the wire: {raw / max(1, wire):.1f} times smaller",
            0 < wire < raw,
        ),
    ]


def _in_the_ledger(ledger: Mapping[str, int]) -> list[Finding]:
    states = ("delivered", "dead", "expired", "superseded", "pending")
    balanced = ledger["accepted"] == sum(ledger[state] for state in states) and ledger["unaccounted"] == 0
    return [
        Finding(
            "ledger",
            f"{ledger['accepted']:,}",
            "accepted = " + " + ".join(f"{ledger[state]:,} {state}" for state in states),
            balanced,
        ),
        Finding("unaccounted", f"{ledger['unaccounted']:,}", "accepted callbacks nobody knows about", balanced),
    ]


def count_order_violations(posted: Sequence[OrderCallback], arrivals: Sequence[Arrival]) -> int:
    """Count first arrivals that came before an earlier status of their order."""
    places = {digest(callback.payload): (callback.order, callback.step) for callback in posted}
    reached: dict[str, int] = {}
    seen = set()
    violations = 0
    for arrival in sorted(arrivals, key=lambda arrival: arrival.at):
        for name in arrival.items:
            if name in seen or name not in places:
                continue
            seen.add(name)
            order, step = places[name]
            violations += step != reached.get(order, -1) + 1
            reached[order] = max(step, reached.get(order, -1))
    return violations


def count_repeats(arrivals: Sequence[Arrival]) -> Repeats:
    """Count the callbacks that were applied twice, and those of them that no re-send of the same batch explains."""
    applied: dict[str, str | None] = {}
    members: dict[str | None, list[str]] = {}
    batches = callbacks = unexplained = 0
    for arrival in sorted(arrivals, key=lambda arrival: arrival.at):
        batch, items = arrival.batch, arrival.items
        again = [name for name in items if name in applied]
        if batch in members:
            batches += 1
        callbacks += len(again)
        if any(applied[name] != batch for name in again) or members.setdefault(batch, items) != items:
            unexplained += len(again) or len(items)
        if arrival.applied:
            applied.update(dict.fromkeys(items, batch))
    return Repeats(batches, callbacks, unexplained)


def _same_bytes(posted: Sequence[OrderCallback], arrivals: Sequence[Arrival]) -> bool:
    sent = {digest(callback.payload) for callback in posted}
    return all(name in sent for arrival in arrivals for name in arrival.items)
