"""Reads a store without its daemon. The answers are the admin listener's, without the states of platforms.

Payloads are always masked: there is no role to check, and no audit record to write.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from msgspec.structs import replace

from relay.admin import filters
from relay.admin.standing.backlog import ledger_view, platform_view
from relay.admin.standing.deeds_asked import wanted_audits, wanted_operations
from relay.admin.standing.failure_groups import failure_groups
from relay.admin.standing.sight import Sight, unknown_callback
from relay.admin.standing.times import WallTimes
from relay.admin.standing.waiting import waits_for
from relay.cli.support.client import Query, Refused
from relay.core.clock import Clock, wall_s
from relay.core.errors import StoreError
from relay.core.model import Filter, State
from relay.privacy.views import Lenses
from relay.views.alerts import AlertView
from relay.views.callback_view import CallbackPage, CallbackView, ListedCallback
from relay.views.hosts import ALONE, HostPage
from relay.views.ledger import LedgerView, QueueTotals
from relay.views.live import NOTHING_KNOWN
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditHead, AuditPage, ChainLink, JournalFilter
from relay.views.past.survey import GroupPage, GroupStep
from relay.views.platform import PlatformView
from relay.views.queue import QueueFacts, StoreSize
from relay.views.waiting import WaitingView
from relay.web.refusal import Refusal


class NoStore(Exception):
    """There is no store to read, or it cannot be read."""


class DeedReader(Protocol):
    """What people did, in a store opened for reading only."""

    def audits(self, wanted: JournalFilter, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records."""
        ...

    def operations(self, wanted: JournalFilter, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations."""
        ...

    def chain(self, after: int, limit: int) -> list[ChainLink]:
        """Return the audit records behind number ``after``, oldest first."""
        ...

    def audit_head(self) -> AuditHead:
        """Return the newest audit record as it was written."""
        ...


class StoreReader(Protocol):
    """A store opened for reading only."""

    @property
    def clock(self) -> Clock:
        """The clock its times are on."""
        ...

    @property
    def journal(self) -> DeedReader:
        """Its audit records and operations."""
        ...

    def operation(self, number: int) -> OperationView | None:
        """Return an operation's progress, or None."""
        ...

    def totals(self) -> Mapping[str, QueueTotals]:
        """Return the totals of each platform."""
        ...

    def platform_status(self) -> Mapping[str, QueueFacts]:
        """Return the queue of each platform."""
        ...

    def room(self, max_bytes: int | None, *, refused_bytes: int = 0) -> StoreSize:
        """Return how much of the store's room is used."""
        ...

    def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback, or None."""
        ...

    def batch_members(self, batch_id: str, limit: int) -> list[str]:
        """Return the ids of callbacks that a batch carried."""
        ...

    def callbacks(self, wanted: Filter, *, cursor: str | None, limit: int) -> tuple[list[ListedCallback], str | None]:
        """Return one page and the next cursor."""
        ...

    @property
    def surveys(self) -> "Grouping":
        """What counts callbacks by what they have in common."""
        ...


class Grouping(Protocol):
    """The part of a store's surveys that is read here."""

    def groups(self, platform: str, wanted: Filter, *, held: bool, below: int | None) -> GroupStep:
        """Group the next part of a platform's dead, expired or held callbacks that match."""
        ...


class _AtOnce:
    """Answers at once from a reader where the daemon would wait for a thread."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        return self._reader.callback(callback_id, payload=payload)

    async def batch_members(self, batch_id: str, *, limit: int) -> list[str]:
        return self._reader.batch_members(batch_id, limit)


class Direct:
    """Reads through ``reader``; ``platforms`` are the configured names, shown also when nothing is queued.

    ``max_bytes`` bounds the store's room; None where that is not known.
    """

    def __init__(self, reader: StoreReader, *, platforms: Sequence[str], max_bytes: int | None) -> None:
        self._reader = reader
        self._max_bytes = max_bytes
        self._platforms = platforms
        self._times = WallTimes(reader.clock, wall_s)
        self._sight = Sight(_AtOnce(reader), Lenses((), {}))

    def platforms(self) -> list[PlatformView]:
        """Return the platforms, their state unknown."""
        queues = self._reader.platform_status()
        now = self._times.now()
        names = dict.fromkeys((*self._platforms, *queues))
        views = []
        for name in names:
            queue = queues.get(name) or QueueFacts()
            view = platform_view(name, queue=queue, live=NOTHING_KNOWN, terms=None, flow=None, now=now)
            reason = "the daemon is not running"
            views.append(
                replace(
                    view,
                    state="unknown",
                    reason=reason,
                    drain_eta_seconds=None,
                    drain_reason=reason,
                    growing=None,
                    until=None,
                )
            )
        return self._times.on_wall(list[PlatformView], views)

    def ledger(self) -> LedgerView:
        """Return the ledger."""
        return ledger_view(self._reader.totals(), self._reader.room(self._max_bytes))

    def refused_reload(self) -> None:
        """Return None: a daemon that does not run has no reload."""

    def hosts(self) -> HostPage:
        """Return none: a store that can be read here is of one host."""
        return ALONE

    def firing(self) -> list[AlertView]:
        """Return none: a daemon that does not run looks for no alerts."""
        return []

    def callbacks(self, query: Query) -> CallbackPage:
        """Return one page of callbacks."""
        given = _given(query)
        text, limit = given.pop("cursor", None), given.pop("limit", None)
        with _refused():
            size = filters.page_size(limit)
            wanted = filters.parse(given, now=self._times.now(), shift_s=self._times.shift_s)
            cursor = filters.taken_back(text, given)
        found, after = self._reader.callbacks(wanted, cursor=cursor, limit=size)
        items = asyncio.run(self._sight.listed(None, found))
        return self._times.on_wall(CallbackPage, CallbackPage(items, filters.given_out(after, given)))

    def groups(self, query: Query) -> GroupPage:
        """Return the groups of failures."""
        with _refused():
            wanted, held = filters.grouped(_given(query), now=self._times.now(), shift_s=self._times.shift_s)
        names = [wanted.platform] if wanted.platform is not None else list(self._reader.platform_status())

        async def look(name: str, below: int | None) -> GroupStep:
            return self._reader.surveys.groups(name, wanted, held=held, below=below)

        async def groups() -> GroupPage:
            page = await failure_groups(names, look)
            return replace(page, items=await self._sight.groups(None, page.items, samples=True))

        return self._times.on_wall(GroupPage, asyncio.run(groups()))

    def callback(self, callback_id: str, *, payload: bool) -> CallbackView:
        """Return one callback; its payload masked."""
        found = self._reader.callback(callback_id, payload=payload)
        if found is None:
            raise Refused(404, {"code": "unknown_callback", "detail": unknown_callback(callback_id).detail})
        view = asyncio.run(self._sight.callback(None, found))
        if view.state == State.PENDING.word:
            waiting = waits_for(found, NOTHING_KNOWN, self._times.now())
            view.waiting = waiting if waiting.until else WaitingView(word="the daemon to run")
        if payload:
            shown = self._sight.payload(None, found.payload or b"")
            view.payload, view.payload_form, view.payload_bytes = shown.payload, shown.form, shown.payload_bytes
        return self._times.on_wall(CallbackView, view)

    def audits(self, query: Query) -> AuditPage:
        """Return one page of audit records."""
        with _refused():
            page = wanted_audits(_given(query), self._times)
        return self._times.on_wall(AuditPage, page.told(self._reader.journal.audits(*page[:3])))

    def operations(self, query: Query) -> OperationPage:
        """Return one page of operations."""
        with _refused():
            page = wanted_operations(_given(query), self._times)
        found = self._reader.journal.operations(*page[:3])
        items = [self._sight.operation(None, each) for each in found.items]
        return self._times.on_wall(OperationPage, page.told(replace(found, items=items)))

    def operation(self, number: int) -> OperationView:
        """Return one operation."""
        found = self._reader.operation(number)
        if found is None:
            raise Refused(404, {"code": "unknown_operation", "detail": f"no operation '{number}'"})
        return self._times.on_wall(OperationView, self._sight.operation(None, found))

    def audit_chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return audit records behind number ``after``, oldest first; none behind the last."""
        return self._reader.journal.chain(after, limit)

    def audit_head(self) -> AuditHead:
        """Return the newest audit record as it was written."""
        return self._times.on_wall(AuditHead, self._reader.journal.audit_head())


def _given(query: Query) -> dict[str, str]:
    return {key: str(value) for key, value in query.items() if value is not None}


@contextmanager
def _refused() -> Iterator[None]:
    """Tell of a query that means nothing as the daemon would."""
    try:
        yield
    except Refusal as refusal:
        raise Refused(400, {"code": refusal.code, "detail": refusal.detail}) from refusal


def open_direct(url: str, *, platforms: Sequence[str], max_size: str, keys: Sequence[str]) -> Direct:
    """Open the store at ``url`` for reading; ``max_size`` is as the configuration says it, and ``keys`` too.

    Raises ``NoStore``; ``PermissionError`` where it is not ours.
    """
    from relay.config.reading.units import parse_size
    from relay.daemon.stores import given_keys, open_reader  # loads the store's library

    try:
        max_bytes = parse_size(max_size)
    except ValueError:  # the file is being edited: the bound is not known
        max_bytes = None
    try:
        return Direct(open_reader(url, given_keys(keys)), platforms=platforms, max_bytes=max_bytes)
    except PermissionError:
        raise
    except (StoreError, OSError) as error:
        raise NoStore(str(error)) from error
