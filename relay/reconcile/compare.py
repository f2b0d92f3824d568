"""The child process that compares: a ``Comparison`` as JSON on its input, a line per difference on its output.

The last line is the summary. The engine's library and its memory thus never come near the daemon or the command.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from relay.core.clock import wall_s
from relay.reconcile.engine import Engine
from relay.reconcile.job import KINDS, SIDES, Comparison
from relay.reconcile.staging import StagedSide, staged

_PROPOSALS = {
    "not_posted": "post", "pruned": "post", "waiting": "wait", "held": "resolve", "dead": "retry", "expired": "retry",
    "not_applied": "resend",
}  # fmt: skip


def compared(wanted: Comparison, *, now: float) -> Iterator[dict[str, Any]]:
    """Yield every difference, then the summary."""
    center = staged(wanted.order_center, SIDES[0], wanted, now=now)
    shown = staged(wanted.shown, SIDES[1], wanted, now=now)
    summary: dict[str, Any] = {
        "run": wanted.run,
        "platform": wanted.platform,
        "since": _instant(wanted.since),
        "until": _instant(wanted.until),
        "complete": center.whole and shown.whole,
        "read": dict.fromkeys(SIDES, 0),
        "agree": 0,
        "counts": {},
        "sides": {name: {} for name in SIDES},
        "problems": msgspec.to_builtins([*center.problems, *shown.problems]),
    }
    if center.usable and shown.usable:
        engine = Engine(wanted.folder)
        engine.compare(wanted, center, shown)
        _fill(summary, engine, center, shown)
        for row in engine.found():
            yield _difference(row)
    yield summary


def _fill(summary: dict[str, Any], engine: Engine, center: StagedSide, shown: StagedSide) -> None:
    counts = {kind: rows for kind, *rows in engine.counts()}
    agreeing = counts.pop(None, [0, 0, 0])
    summary["agree"] = agreeing[0]
    summary["counts"] = {kind: counts[kind][0] for kind in KINDS if kind in counts}
    for at, (name, side) in enumerate(zip(SIDES, (center, shown), strict=True), start=1):
        rows = {kind: counts[kind][at] for kind in KINDS if kind in counts and counts[kind][at]}
        if side.nameless:
            rows["unreadable"] = rows.get("unreadable", 0) + side.nameless
        summary["sides"][name] = rows
        summary["read"][name] = agreeing[at] + sum(rows.values())


def _difference(row: tuple[Any, ...]) -> dict[str, Any]:
    key, kind, why, a_status, a_at, p_status, p_at, place, last = row
    if kind == "unreadable":
        proposal = place
    elif kind == "unsettled":
        proposal = "next run"
    else:
        proposal = _PROPOSALS.get(why, "ask") if kind in ("missing", "behind") else "ask"
    return {
        "key": key,
        "kind": kind,
        "why": why,
        "order_center": None if a_status is None else {"status": a_status, "at": _instant(a_at)},
        "platform": None if p_status is None else {"status": p_status, "at": _instant(p_at)},
        "relay": None if last is None else {**last, "at": _instant(last["at"])},
        "proposal": proposal,
    }


def _instant(at: float | None) -> str | None:
    """Return a time as text; None where there is none (a line that could not be read has time 0)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def main() -> None:
    """Compare what the input asks for."""
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Comparison)
    for line in compared(wanted, now=wall_s()):
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")


if __name__ == "__main__":
    main()
