"""Comparisons of both sides as operators see them."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import told


class SideProblemView(Struct, frozen=True, kw_only=True):
    """What of a side could not be read."""

    side: Annotated[str, told("order_center, platform or relay")]
    place: Annotated[str, told("where: orders.csv:713, page 7")]
    text: Annotated[str, told("what is wrong there")]


class RepairView(Struct, frozen=True, kw_only=True):
    """What came of repairing."""

    proposed: Annotated[int, told("differences that could be repaired")]
    sent: Annotated[int, told("callbacks sent once more")]
    applied: Annotated[int, told("left alone: the platform shows them by now")]
    unclear: Annotated[int, told("left for the next run: the platform could not be asked")]
    operations: Annotated[list[int], told("the operations that sent them")]
    refused: Annotated[str, told("why nothing was repaired; else empty")]
    unasked: Annotated[bool, told("by the daemon itself, without a person's word")] = False


class VerifiedView(Struct, frozen=True, kw_only=True):
    """What a run says of an earlier run's repairs."""

    of: Annotated[str, told("the earlier run")]
    counts: Annotated[dict[str, int], told("orders by repaired, still, changed")]


class RunView(Struct, frozen=True, kw_only=True):
    """One run, without its differences."""

    run: Annotated[str, told("its name: when it started")]
    platform: Annotated[str, told("the platform compared")]
    state: Annotated[str, told("running, done or failed")]
    since: Annotated[str | None, told("orders that changed from then on were compared")] = None
    until: Annotated[str | None, told("and until then")] = None
    complete: Annotated[bool, told("both sides were read whole")] = False
    read: Annotated[dict[str, int], told("rows by side")] = {}
    agree: Annotated[int, told("orders that agree")] = 0
    counts: Annotated[dict[str, int], told("orders by kind of difference")] = {}
    sides: Annotated[dict[str, dict[str, int]], told("rows by side and kind")] = {}
    problems: Annotated[list[SideProblemView], told("what could not be read, and where")] = []
    repair: Annotated[RepairView | UnsetType, told("what was repaired, where that was wanted")] = UNSET
    verified: Annotated[VerifiedView | UnsetType, told("what became of the repairs before")] = UNSET
    failed: Annotated[str | UnsetType, told("why it came to no end")] = UNSET


class OrderSideView(Struct, frozen=True, kw_only=True):
    """An order as one side shows it."""

    status: Annotated[str, told("in the vocabulary of the configuration")]
    at: Annotated[str | None, told("when it changed last")]


class OrderSentView(Struct, frozen=True, kw_only=True):
    """The relay's newest callback for an order."""

    id: Annotated[str, told("its id")]
    state: Annotated[str, told("pending, held, delivered, dead, expired, superseded")]
    at: Annotated[str | None, told("when it ended or, pending, is due")]
    reason: Annotated[str, told("why it is in its state")] = ""
    status: Annotated[str, told("the order's status that it tells, in the vocabulary of the configuration")] = ""


class DifferenceView(Struct, frozen=True, kw_only=True):
    """One order in which the sides differ."""

    key: Annotated[str, told("the order")]
    kind: Annotated[str, told("missing, unknown, behind, ahead, conflict, different, duplicate, stuck, ...")]
    why: Annotated[str | None, told("not_posted, waiting, held, dead, expired, not_applied, pruned, over, short, ...")]
    order_center: Annotated[OrderSideView | None, told("null: it is not there")]
    platform: Annotated[OrderSideView | None, told("null: it is not there")]
    relay: Annotated[OrderSentView | None, told("null: the relay never got it")]
    proposal: Annotated[str, told("post, wait, resolve, retry, resend, ask, next run, or file and line")]
    first_seen: Annotated[str | None, told("when a run found it first")]
    runs: Annotated[int, told("in how many runs it was found")]


class VerifiedOrderView(Struct, frozen=True, kw_only=True):
    """What became of one order that an earlier run repaired."""

    key: Annotated[str, told("the order")]
    result: Annotated[str, told("repaired, still or changed")]


class WholeRunView(RunView, frozen=True, kw_only=True):
    """One run with its differences."""

    differences: Annotated[list[DifferenceView], told("all of them, by kind and order")] = []
    verified_orders: Annotated[list[VerifiedOrderView], told("each order that the earlier run repaired")] = []


class RunPage(Struct, frozen=True):
    """Runs, newest first."""

    items: Annotated[list[RunView], told("at most 100")]
    next: Annotated[str | None, told("always null: 90 days are kept")]
