"""Where ``status``, ``ls``, ``show`` and ``dead ls`` read from: the daemon, or its store when the daemon is down."""

from collections.abc import Mapping
from typing import Any, Protocol

import click

from relay.cli.support.client import Client, Unreachable, segment
from relay.cli.support.locate import Place
from relay.core.errors import RelayError


class Source(Protocol):
    """What the reading commands read. The answers are those of the admin API."""

    def platforms(self) -> list[dict[str, Any]]:
        """Return the platforms' views."""
        ...

    def ledger(self) -> dict[str, Any]:
        """Return the ledger."""
        ...

    def refused_reload(self) -> dict[str, Any] | None:
        """Return the last reload if it was refused: ``{"at", "problems", "todo"}``."""
        ...

    def callbacks(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return one page of callbacks: ``{"items": [...], "next": cursor or null}``."""
        ...

    def callback(self, callback_id: str, *, payload: bool) -> dict[str, Any]:
        """Return one callback."""
        ...


class Daemon:
    """Reads from the admin listener."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def platforms(self) -> list[dict[str, Any]]:
        """Return the platforms' views."""
        items: list[dict[str, Any]] = self._client.get("/v1/platforms")["items"]
        return items

    def ledger(self) -> dict[str, Any]:
        """Return the ledger."""
        found: dict[str, Any] = self._client.get("/v1/ledger")
        return found

    def refused_reload(self) -> dict[str, Any] | None:
        """Return the last reload if it was refused."""
        found: dict[str, Any] | None = self._client.get("/v1/config")["refused_reload"]
        return found

    def callbacks(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return one page of callbacks."""
        page: dict[str, Any] = self._client.get("/v1/callbacks", query)
        return page

    def callback(self, callback_id: str, *, payload: bool) -> dict[str, Any]:
        """Return one callback."""
        query = {"payload": "1"} if payload else None
        found: dict[str, Any] = self._client.get(f"/v1/callbacks/{segment(callback_id)}", query)
        return found


def open_source(place: Place) -> Source:
    """Return the daemon if it answers, else its store, and say so on stderr. Raises ``Unreachable`` if neither does."""
    client = place.admin_client()
    try:
        client.get("/livez")
    except Unreachable as error:
        if place.store is None:
            raise
        if place.broken is not None:
            raise RelayError(f"{error}; which store it has stands in a file that cannot be read") from error
        return _direct(place, place.store, error)
    return Daemon(client)


def _direct(place: Place, store: str, unreachable: Unreachable) -> Source:
    from relay.cli.support.direct import NoStore, open_direct  # the store's library is loaded only when it is needed

    try:
        source = open_direct(store, platforms=place.platforms, max_size=place.store_size)
    except NoStore as error:
        raise Unreachable(f"{unreachable}; and its store cannot be read: {error}") from error
    except PermissionError as error:
        path = store.removeprefix("sqlite:")
        raise Unreachable(f"{unreachable}; {path} is for the service and root: try sudo") from error
    name = store.rpartition("/")[2]
    click.echo(f"daemon not reachable at {place.admin}; reading {name} directly", err=True)
    return source
