"""What a comparison says: a line for each order that differs, and a summary of the run. Both are kept as JSON."""

from typing import NotRequired, TypedDict, final


class OrderLine(TypedDict):
    """An order as one side shows it."""

    status: str
    at: str | None


class CallbackLine(TypedDict):
    """The relay's newest callback for an order."""

    id: str
    state: str
    at: str | None
    reason: str
    status: str


@final
class DifferenceLine(TypedDict):
    """One order in which the sides differ; what each member means stands in ``relay.views.past.reconciliation``."""

    key: str
    kind: str
    why: str | None
    order_center: OrderLine | None
    platform: OrderLine | None
    relay: CallbackLine | None
    proposal: str
    first_seen: str | None
    runs: int


class ProblemLine(TypedDict):
    """What of a side could not be read."""

    side: str
    place: str
    text: str


class RepairSummary(TypedDict):
    """What came of repairing (``repairing.RepairsMade``)."""

    proposed: int
    sent: int
    applied: int
    unclear: int
    operations: list[int]
    refused: str
    unasked: NotRequired[bool]  # not in what earlier relays kept


class VerifiedOrder(TypedDict):
    """What became of one order that an earlier run repaired: repaired, still or changed."""

    key: str
    result: str


class VerifiedSummary(TypedDict):
    """What a run says of an earlier run's repairs."""

    of: str
    counts: dict[str, int]


@final
class RunSummary(TypedDict):
    """One run, without its differences."""

    run: str
    platform: str
    since: str | None
    until: str | None
    complete: bool
    read: dict[str, int]
    agree: int
    counts: dict[str, int]
    sides: dict[str, dict[str, int]]
    problems: list[ProblemLine]
    agreeing: NotRequired[list[str]]  # of the orders that were watched; for who started the run, and not kept
    repair: NotRequired[RepairSummary]
    verified: NotRequired[VerifiedSummary]
    verified_orders: NotRequired[list[VerifiedOrder]]
    failed: NotRequired[str]  # why it came to no end
    differences: NotRequired[list[DifferenceLine]]  # of a whole run
