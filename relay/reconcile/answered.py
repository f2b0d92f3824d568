"""What a platform's answer about one order says of it."""

from collections.abc import Callable, Sequence
from enum import Enum

from relay.reconcile.job import PlatformReply
from relay.reconcile.staging import StagedRow

_NOT_THERE = (404, 410)
_APPLIED = ("ok", "duplicate")
_DENIED = ("reject", "retry")  # by a rule, of an answer about the order


class Standing(Enum):
    """How an order stands at the platform, where the answer does not hold it."""

    UNASKED = "nothing to ask by"
    SAME = "there, as it was sent"
    GONE = "not there"
    OPEN = "no answer says anything"


def standing(reply: PlatformReply) -> Standing:
    """Return what the outcome of asking says."""
    if not reply.outcome:
        return Standing.UNASKED
    if reply.outcome in _APPLIED:
        return Standing.SAME
    if reply.status in _NOT_THERE or (reply.outcome in _DENIED and 200 <= reply.status < 500):
        return Standing.GONE
    return Standing.OPEN


def row_in(reply: PlatformReply, key: str, read: Callable[[Sequence[object], str], StagedRow]) -> StagedRow | None:
    """Return the order in an answer about it; None where it holds none that can be read."""
    if not 200 <= reply.status < 300 or not reply.rows:
        return None
    named, *values = reply.rows[0]
    if named not in ("", key):
        return None
    row = read((key, *values), "")
    if row.fault and not row.fault.startswith("no time"):
        return None
    return StagedRow(row.key, row.status, row.rank, row.at, "", row.also)
