"""One comparison as data: what is handed to the process that compares."""

import re
from collections.abc import Mapping

import msgspec

SIDES = ("order_center", "platform")
KINDS = (
    "missing", "unknown", "behind", "ahead", "conflict", "different", "duplicate", "stuck", "unsettled", "unreadable",
)  # fmt: skip
"""Every kind of difference, in the order of the specification's table."""


class FileSource(msgspec.Struct, frozen=True, tag="file"):
    """An export."""

    file: str
    encoding: str


class SqlSource(msgspec.Struct, frozen=True, tag="sql"):
    """A query of a database."""

    sql: str
    query: str

    @property
    def bounded(self) -> bool:
        """Whether it asks for what changed since a time that it is given."""
        return re.search(r"(?<![:\w]):since\b", self.query) is not None


class PagedSource(msgspec.Struct, frozen=True, tag="url"):
    """Pages of the platform's answers; ``page`` is the number of the first, ``cursor`` a JMESPath."""

    url: str
    items_at: str
    page: int | None
    cursor: str
    param: str
    link: bool


Source = FileSource | SqlSource | PagedSource


class ComparedSide(msgspec.Struct, frozen=True):
    """Where a side's orders are read, and where its rows hold what is compared."""

    source: Source
    key: str
    status: str
    at: str
    also: list[str]
    status_map: Mapping[str, str]


class StoreKeys(msgspec.Struct, frozen=True):
    """What opens a sealed store: keys, the one in force first, or a vault that has it."""

    keys: list[bytes] = []
    vault: tuple[str, str, str] | None = None  # URL, path, token


class RelaySide(msgspec.Struct, frozen=True):
    """Where payloads of the relay's callbacks hold key and status. ``store`` is the store's URL."""

    store: str
    key: str
    status: str
    status_map: Mapping[str, str]
    opened_with: StoreKeys = StoreKeys()
    prefix: str = ""  # of a store on a server


class Comparison(msgspec.Struct, frozen=True):
    """What to compare. Times are seconds since 1970, durations seconds."""

    run: str
    platform: str
    since: float
    until: float
    settle_s: float
    carry: int  # so many runs look at an unsettled order again
    keep_s: float  # how long the relay keeps what was delivered
    tz: str
    order: list[str]
    tolerance: Mapping[str, float]
    stuck: Mapping[str, float]
    fewest_rows: float  # of the rows that a side had in its last run, 0 to 1
    order_center: ComparedSide
    shown: ComparedSide  # the platform's
    relay: RelaySide
    confirms: bool  # the platform can be asked about single orders
    background: bool  # nobody waits for it: everything else that the machine has to do goes first
    folder: str  # private to this run, removed after it; holds ``SEEN`` and ``ROWS`` of the run before
    read_since: float | None = None  # pages and queries are asked from then on, if that is before ``since``
    follow: bool = False  # an order of ``SEEN`` is compared although nothing of it changed in the window
    watched: list[str] = []  # orders that are compared in any case: a run repaired them

    @property
    def asked_since(self) -> float:
        """From when on pages and queries are asked for orders."""
        return self.since if self.read_since is None else min(self.since, self.read_since)


SEEN = "seen.csv"
"""In the run's folder: of each order that differed in the run before, since when, in how many runs, and how many of
these carried it. The comparison writes it anew."""
SENT = "relay.csv"
"""In the run's folder: the relay's rows."""
ROWS = "rows.json"
"""In the run's folder: how many rows each side had in its last run that was read whole, and over which span."""


class SideProblem(msgspec.Struct, frozen=True):
    """What of a side could not be read, with its place (``orders.csv:713``)."""

    side: str
    place: str
    text: str


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the comparison asks of who started it: a page by its URL, or what became of one order."""

    page: str = ""
    order: str = ""
    callback: str = ""  # the newest of the order, if the relay has one


class PlatformReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the platform answered. ``outcome`` is the relay's word for it (``ok``, ``reject``); empty: nobody asked.

    ``rows`` are the orders in the answer: of each the columns that are compared, and nothing else of it. None: it holds
    no list of them; with ``absent`` it is a page all the same, which leaves an empty list out. ``cursor`` is that of
    the next page, ``link`` the header of that name, ``reason`` for people.
    """

    outcome: str = ""
    status: int = 0
    rows: list[list[str]] | None = None
    absent: bool = False
    cursor: str = ""
    link: str = ""
    reason: str = ""
