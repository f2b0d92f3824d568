"""One comparison as data: what the command hands to the process that compares."""

from collections.abc import Mapping

import msgspec

SIDES = ("order_center", "platform")
KINDS = (
    "missing", "unknown", "behind", "ahead", "conflict", "different", "duplicate", "stuck", "unsettled", "unreadable",
)  # fmt: skip
"""Every kind of difference, in the order of the specification's table."""


class ExportSide(msgspec.Struct, frozen=True):
    """A file to read, and where its rows hold what is compared."""

    file: str
    encoding: str
    key: str
    status: str
    at: str
    also: list[str]
    status_map: Mapping[str, str]


class Comparison(msgspec.Struct, frozen=True):
    """What to compare. Times are seconds since 1970, durations seconds."""

    run: str
    platform: str
    since: float
    until: float
    settle_s: float
    keep_s: float  # how long the relay keeps what was delivered
    tz: str
    order: list[str]
    tolerance: Mapping[str, float]
    stuck: Mapping[str, float]
    order_center: ExportSide
    shown: ExportSide  # the platform's
    sent_file: str  # the relay's rows, as ``ours.write`` wrote them
    folder: str  # private to this run, removed after it


class SideProblem(msgspec.Struct, frozen=True):
    """What of a side could not be read, with its place (``orders.csv:713``)."""

    side: str
    place: str
    text: str
