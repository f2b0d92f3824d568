"""Repairs what a comparison found: sends callbacks once more that the platform lost, or that died here.

1. Only what a complete run found is repaired, and only where the relay has the callback (`retry`, `resend`). What it
   never got (`post`) it has nothing to send for.
2. More than ``guard.max_repairs`` are refused: that is no handful of lost orders, something else is wrong.
3. Where the platform can be asked (`confirm`), it is asked once more right before: what it shows by now is left alone.
4. The callbacks go out as an operation `resend`, under all limits; each is repeated once for a run.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from relay.core.errors import RelayError
from relay.reconcile.answered import Standing, row_in, standing
from relay.reconcile.job import Comparison, Question
from relay.reconcile.launch import Ask
from relay.reconcile.results import DifferenceLine, RepairSummary, VerifiedOrder
from relay.reconcile.staging import RowReader

KINDS = ("missing", "behind")
"""Kinds that can be repaired."""
_REPAIRABLE = ("retry", "resend")
_AT_ONCE = 20  # callbacks of one operation where each is asked about before

Resend = Callable[[Sequence[str]], Awaitable[int]]
"""Starts an operation ``resend`` on callbacks and returns its number."""


class Repair(msgspec.Struct, frozen=True):
    """One callback that is to be sent once more."""

    key: str
    kind: str
    proposal: str
    callback: str
    status: str  # that the platform should show


class RepairsMade(msgspec.Struct):
    """What came of repairing."""

    proposed: int
    sent: int = 0
    applied: int = 0  # the platform shows them by now
    unclear: int = 0  # it could not be asked: left for the next run
    operations: list[int] = []
    refused: str = ""  # why nothing was repaired


def repair_of(line: DifferenceLine) -> Repair | None:
    """Return the repair of a difference; None where there is none."""
    if line["proposal"] not in _REPAIRABLE or line["kind"] not in KINDS or line["relay"] is None:
        return None
    asked = line["order_center"] or line["relay"]  # where the order center does not list it, the relay vouches for it
    return Repair(line["key"], line["kind"], line["proposal"], line["relay"]["id"], asked["status"])


def chosen(repairs: Iterable[Repair], *, kinds: Sequence[str], most: int, guard: int) -> list[Repair]:
    """Return what is to be repaired, at most ``most``. Raises ``RelayError`` where that passes ``guard``."""
    meant = [repair for repair in repairs if repair.kind in kinds][:most]
    if len(meant) > guard:
        text = f"{len(meant)} repairs are more than guard.max_repairs ({guard}): look at them first, or name --max"
        raise RelayError(text)
    return meant


async def carry_out(
    repairs: Sequence[Repair], wanted: Comparison, *, ask: Ask, resend: Resend, now: float
) -> RepairsMade:
    """Look once more, then send; return what came of it."""
    made = RepairsMade(len(repairs))
    size = _AT_ONCE if wanted.confirms else max(1, len(repairs))
    for start in range(0, len(repairs), size):
        due = repairs[start : start + size]
        if wanted.confirms:
            due = [repair for repair in due if await _still_due(repair, wanted, ask, now, made)]
        if due:
            made.operations.append(await resend([repair.callback for repair in due]))
            made.sent += len(due)
    return made


async def _still_due(repair: Repair, wanted: Comparison, ask: Ask, now: float, made: RepairsMade) -> bool:
    reply = await ask(Question(order=repair.key, callback=repair.callback))
    row = row_in(reply, repair.key, RowReader(wanted.shown, wanted, now=now).read)
    if row is not None:
        order = {word: rank for rank, word in enumerate(wanted.order)}
        if row.rank >= order.get(repair.status, len(order)) or row.status == repair.status:
            made.applied += 1
            return False
        return True
    match standing(reply):
        case Standing.SAME:
            made.applied += 1
            return False
        case Standing.OPEN:
            made.unclear += 1
            return False
        case _:
            return True


def verified(repairs: Iterable[Repair], found: Mapping[str, str], agreeing: Collection[str]) -> list[VerifiedOrder]:
    """Return of each repaired order what a later run says: ``repaired`` where both sides were seen to agree.

    ``found`` has the kind of each that differs. An order that neither side lists any more is ``changed``.
    """
    agreed = frozenset(agreeing)
    results: list[VerifiedOrder] = []
    for repair in repairs:
        kind = found.get(repair.key)
        still = kind in (repair.kind, "unsettled")
        result = "repaired" if repair.key in agreed else "still" if still else "changed"
        results.append({"key": repair.key, "result": result})
    return results


def summed_up(made: RepairsMade, *, unasked: bool) -> RepairSummary:
    """Return what came of repairing as it is kept; ``unasked``: by the daemon itself, without a person's word."""
    return {
        "proposed": made.proposed,
        "sent": made.sent,
        "applied": made.applied,
        "unclear": made.unclear,
        "operations": made.operations,
        "refused": made.refused,
        "unasked": unasked,
    }


def counted(results: Iterable[VerifiedOrder]) -> dict[str, int]:
    """Return how many orders have each result."""
    counts: dict[str, int] = {}
    for each in results:
        counts[each["result"]] = counts.get(each["result"], 0) + 1
    return counts
