"""Reads a platform's orders page by page; who started the comparison asks the platform, under all its limits."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from string import Formatter
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

import msgspec

from relay.reconcile.job import PagedSource, PlatformReply, Question
from relay.reconcile.sources.record import Record, SideUnread

_MOST_PAGES = 1_000_000
_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^",;\s]*))*)')
_PARAMETER = re.compile(r'([\w*-]+)\s*=\s*("[^"]*"|[^",;\s]*)')
_ACCEPTED = ("ok", "duplicate", "confirm")  # confirm: an answer that the rules for callbacks do not know


class PagedRecords:
    """The orders on all pages, from the first to an empty one or one without a next."""

    def __init__(
        self,
        source: PagedSource,
        *,
        since: float,
        until: float,
        zone: ZoneInfo,
        ask: Callable[[Question], PlatformReply],
    ) -> None:
        self.name = "page"
        self._source = source
        self._window = {"since": since, "until": until}
        self._zone = zone
        self._ask = ask
        self._page = 0

    def place(self, number: int) -> str:
        """Return the page, from 1, and the order on it."""
        return f"page {self._page}:{number}"

    def __iter__(self) -> Iterator[Record]:
        """Yield the orders; raises ``SideUnread`` where a page cannot be read, or comes again and again."""
        number = self._source.page
        url: str | None = filled(self._source.url, self._window, number, self._zone)
        rows, asked, seen = 0, set(), dict[bytes, int]()
        while url is not None:
            self._page += 1
            where = f"page {self._page}"
            if url in asked or self._page > _MOST_PAGES:
                raise SideUnread(where, "the platform leads back to a page that was read already")
            asked.add(url)
            reply = self._ask(Question(page=url))
            if reply.outcome not in _ACCEPTED or not 200 <= reply.status < 300:
                raise SideUnread(where, reply.reason or f"the platform answered {reply.status}")
            items = reply.rows
            if reply.absent and self._page > 1:
                items = []  # many leave the list out where it would be empty
            if items is None:
                what = self._source.items_at or "the answer"
                raise SideUnread(where, reply.reason or f"{what} is no list of orders")
            digest = _digest(items)
            if items and digest in seen:
                raise SideUnread(where, f"it is the same as page {seen[digest]}: the platform does not go on")
            seen[digest] = self._page
            for place, item in enumerate(items, start=1):
                rows += 1
                yield place, item, ""
            if number is not None:
                number += 1
            url = self._next(url, reply, number) if items else None
        if rows == 0:
            raise SideUnread("page 1", "holds no order: an empty answer is not compared")

    def _next(self, url: str, reply: PlatformReply, number: int | None) -> str | None:
        source = self._source
        if number is not None:
            return filled(source.url, self._window, number, self._zone)
        if source.cursor:
            return with_parameter(url, source.param, reply.cursor) if reply.cursor else None
        return self._linked(url, reply.link) if source.link else None

    def _linked(self, url: str, header: str) -> str | None:
        target = next_link(header)
        if target is None:
            return None
        found = urljoin(url, target)
        if urlsplit(found)[:2] != urlsplit(self._source.url)[:2]:  # our login goes to nobody else
            raise SideUnread(f"page {self._page}", "its next page lies on another host")
        return found


def filled(template: str, window: dict[str, float], page: int | None, zone: ZoneInfo) -> str:
    """Return a URL with the bounds of the window and the page in it, percent-encoded.

    ``{since}`` of 0.0 is 1970-01-01T00:00:00Z, ``{since:s}`` 0, ``{since:ms}`` 0, ``{since:local}`` in ``zone``.
    """
    parts = []
    for text, name, form, _ in Formatter().parse(template):
        parts.append(text)
        if name == "page":
            parts.append(str(page))
        elif name is not None:
            parts.append(quote(_moment(window[name], form or "", zone), safe=""))
    return "".join(parts)


def _moment(at: float, form: str, zone: ZoneInfo) -> str:
    if form in ("s", "ms"):
        return str(int(at * (1000 if form == "ms" else 1)))
    if form == "local":
        return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S}"
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def with_parameter(url: str, name: str, value: str) -> str:
    """Return ``url`` with one query parameter set, in place of one of the same name."""
    parts = urlsplit(url)
    kept = [(key, given) for key, given in parse_qsl(parts.query, keep_blank_values=True) if key != name]
    return urlunsplit(parts._replace(query=urlencode([*kept, (name, value)])))


def next_link(header: str) -> str | None:
    """Return the target of ``rel="next"`` in a Link header (RFC 8288), or None."""
    for target, parameters in _LINK.findall(header):
        named = dict(_PARAMETER.findall(parameters.lower()))
        if "next" in named.get("rel", "").strip('"').split():
            return str(target)
    return None


def _digest(items: Sequence[Sequence[str]]) -> bytes:
    """Return what tells pages apart: their orders, in whatever sequence; the rest may change from answer to answer."""
    keys = sorted(key for key, *_ in items)
    told = keys if any(keys) else items
    return blake2b(msgspec.json.encode(told), digest_size=16).digest()
