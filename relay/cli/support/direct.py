"""Reads a store without its daemon. The answers are the admin listener's, without the states of platforms.

Payloads are always masked: there is no role to check, and no audit record to write.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from relay.admin import filters
from relay.admin.resources.callbacks import callback_view, unknown_callback
from relay.admin.standing.backlog import ledger, platform_view, store_view
from relay.admin.standing.times import WallTimes
from relay.admin.standing.waiting import waits_for
from relay.cli.support.client import Refused
from relay.core.clock import Clock, wall_s
from relay.core.errors import StoreError
from relay.core.model import Filter
from relay.privacy.masking import masked
from relay.web.refusal import Refusal

_UNKNOWN = {
    "state": "unknown",
    "reason": "the daemon is not running",
    "drain_eta_seconds": None,
    "growing": None,
    "until": None,
}


class NoStore(Exception):
    """There is no store to read, or it cannot be read."""


class StoreReader(Protocol):
    """A store opened for reading only."""

    @property
    def clock(self) -> Clock:
        """The clock its times are on."""
        ...

    def totals(self) -> Mapping[str, Mapping[str, int]]:
        """Return the totals of each platform."""
        ...

    def platform_status(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the queue of each platform."""
        ...

    def room(self, max_bytes: int | None, *, refused_bytes: int = 0) -> Mapping[str, int]:
        """Return how much of the store's room is used."""
        ...

    def callback(self, callback_id: str, *, payload: bool = False) -> Mapping[str, Any] | None:
        """Return one callback, or None."""
        ...

    def callbacks(self, wanted: Filter, *, cursor: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page and the next cursor."""
        ...


class Direct:
    """Reads through ``reader``; ``platforms`` are the configured names, shown also when nothing is queued.

    ``max_bytes`` bounds the store's room; None where that is not known.
    """

    def __init__(self, reader: StoreReader, *, platforms: Sequence[str], max_bytes: int | None) -> None:
        self._reader = reader
        self._max_bytes = max_bytes
        self._platforms = platforms
        self._times = WallTimes(reader.clock, wall_s)

    def platforms(self) -> list[dict[str, Any]]:
        """Return the platforms' views, their state unknown."""
        queues = self._reader.platform_status()
        now = self._times.now()
        names = dict.fromkeys((*self._platforms, *queues))
        views = (
            platform_view(name, queue=queues.get(name, {}), live={}, terms=None, flow=None, now=now) for name in names
        )
        return [{**self._times.told(view), **_UNKNOWN} for view in views]

    def ledger(self) -> dict[str, Any]:
        """Return the ledger."""
        return {**ledger(self._reader.totals()), "store": store_view(self._reader.room(self._max_bytes))}

    def refused_reload(self) -> None:
        """Return None: a daemon that does not run has no reload."""

    def callbacks(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return one page of callbacks."""
        given = {key: str(value) for key, value in query.items() if value is not None}
        text, limit = given.pop("cursor", None), given.pop("limit", None)
        try:
            size = filters.page_size(limit)
            wanted = filters.parse(given, now=self._times.now(), shift_s=self._times.shift_s)
            cursor = filters.taken_back(text, given)
        except Refusal as refusal:
            raise Refused(400, {"code": refusal.code, "detail": refusal.detail}) from refusal
        items, after = self._reader.callbacks(wanted, cursor=cursor, limit=size)
        views = [callback_view(item, self._times) for item in items]
        return {"items": views, "next": filters.given_out(after, given)}

    def callback(self, callback_id: str, *, payload: bool) -> dict[str, Any]:
        """Return one callback; its payload masked."""
        found = self._reader.callback(callback_id, payload=payload)
        if found is None:
            raise Refused(404, {"code": "unknown_callback", "detail": unknown_callback(callback_id).detail})
        view = callback_view(found, self._times)
        if view["state"] == "pending":
            waiting = waits_for(found, {}, self._times.now())
            view["waiting"] = (
                self._times.told(waiting) if waiting["until"] else {"for": "the daemon to run", "until": None}
            )
        if payload:
            shown = masked(found["payload"] or b"")
            view |= {"payload": shown.payload, "payload_form": shown.form, "payload_bytes": shown.payload_bytes}
        return view


def open_direct(url: str, *, platforms: Sequence[str], max_size: str) -> Direct:
    """Open the store at ``url`` for reading; ``max_size`` is as the configuration says it.

    Raises ``NoStore``; ``PermissionError`` where it is not ours.
    """
    from relay.config.reading.units import parse_size
    from relay.daemon.stores import open_reader  # loads the store's library

    try:
        max_bytes = parse_size(max_size)
    except ValueError:  # the file is being edited: the bound is not known
        max_bytes = None
    try:
        return Direct(open_reader(url), platforms=platforms, max_bytes=max_bytes)
    except PermissionError:
        raise
    except (StoreError, OSError) as error:
        raise NoStore(str(error)) from error
