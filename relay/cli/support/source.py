"""Where the commands that only look (``status``, ``ls``, ``dead groups`` ...) read: the daemon, or its store."""

from typing import Protocol

import click

from relay.cli.support.client import Client, Query, Unreachable, segment
from relay.cli.support.locate import Place
from relay.cli.words.sentences import say
from relay.core.errors import RelayError
from relay.views.alerts import AlertPage, AlertView
from relay.views.callback_view import CallbackPage, CallbackView
from relay.views.configuration import ConfigView, RefusedReloadView
from relay.views.hosts import HostPage
from relay.views.ledger import LedgerView
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditHead, AuditPage, ChainLink, ChainPage
from relay.views.past.survey import GroupPage
from relay.views.platform import PlatformPage, PlatformView

_LAST_KNOWN = {"last_known": 1}


class Source(Protocol):
    """What the reading commands read: the views of the admin API, with wall times."""

    def platforms(self) -> list[PlatformView]:
        """Return the platforms' views; while a shared store is away, as it told them last."""
        ...

    def ledger(self) -> LedgerView:
        """Return the ledger; while a shared store is away, as it told it last, and ``away`` says so."""
        ...

    def refused_reload(self) -> RefusedReloadView | None:
        """Return the last reload if it was refused."""
        ...

    def hosts(self) -> HostPage:
        """Return the hosts that share the store."""
        ...

    def firing(self) -> list[AlertView]:
        """Return the alerts that fire."""
        ...

    def callbacks(self, query: Query) -> CallbackPage:
        """Return one page of callbacks."""
        ...

    def groups(self, query: Query) -> GroupPage:
        """Return the groups of failures."""
        ...

    def callback(self, callback_id: str, *, payload: bool) -> CallbackView:
        """Return one callback."""
        ...

    def audits(self, query: Query) -> AuditPage:
        """Return one page of audit records."""
        ...

    def operations(self, query: Query) -> OperationPage:
        """Return one page of operations."""
        ...

    def operation(self, number: int) -> OperationView:
        """Return one operation."""
        ...

    def audit_chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return audit records behind number ``after`` as they are chained, oldest first; none behind the last."""
        ...

    def audit_head(self) -> AuditHead:
        """Return the newest audit record as it was written."""
        ...


class Daemon:
    """Reads from the admin listener."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def platforms(self) -> list[PlatformView]:
        """Return the platforms' views."""
        return self._client.view(PlatformPage, "/v1/platforms", _LAST_KNOWN).items

    def ledger(self) -> LedgerView:
        """Return the ledger."""
        return self._client.view(LedgerView, "/v1/ledger", _LAST_KNOWN)

    def refused_reload(self) -> RefusedReloadView | None:
        """Return the last reload if it was refused."""
        return self._client.view(ConfigView, "/v1/config").refused_reload

    def hosts(self) -> HostPage:
        """Return the hosts that share the store."""
        return self._client.view(HostPage, "/v1/hosts")

    def firing(self) -> list[AlertView]:
        """Return the alerts that fire."""
        return [each for each in self._client.view(AlertPage, "/v1/alerts").items if each.status == "firing"]

    def callbacks(self, query: Query) -> CallbackPage:
        """Return one page of callbacks."""
        return self._client.view(CallbackPage, "/v1/callbacks", query)

    def groups(self, query: Query) -> GroupPage:
        """Return the groups of failures."""
        return self._client.view(GroupPage, "/v1/dead-letters/groups", query)

    def callback(self, callback_id: str, *, payload: bool) -> CallbackView:
        """Return one callback."""
        query = {"payload": "1"} if payload else None
        return self._client.view(CallbackView, f"/v1/callbacks/{segment(callback_id)}", query)

    def audits(self, query: Query) -> AuditPage:
        """Return one page of audit records."""
        return self._client.view(AuditPage, "/v1/audit", query)

    def operations(self, query: Query) -> OperationPage:
        """Return one page of operations."""
        return self._client.view(OperationPage, "/v1/operations", query)

    def operation(self, number: int) -> OperationView:
        """Return one operation."""
        return self._client.view(OperationView, f"/v1/operations/{number}")

    def audit_chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return audit records behind number ``after``, oldest first; none behind the last."""
        query = {"after": str(after), "limit": str(limit)}
        return self._client.view(ChainPage, "/v1/audit/chain", query).items

    def audit_head(self) -> AuditHead:
        """Return the newest audit record as it was written."""
        return self._client.view(AuditHead, "/v1/audit/head")


def open_source(place: Place) -> Source:
    """Return the daemon if it answers, else its store, and say so on stderr. Raises ``Unreachable`` if neither does."""
    client = place.admin_client()
    try:
        client.get("/livez")
    except Unreachable as error:
        if place.store is None:
            raise
        if place.broken is not None:
            raise RelayError(
                say("{why}; which store it has stands in a file that cannot be read", why=error)
            ) from error
        return _direct(place, place.store, error)
    return Daemon(client)


def _direct(place: Place, store: str, unreachable: Unreachable) -> Source:
    from relay.cli.support.direct import NoStore, open_direct  # the store's library is loaded only when it is needed

    try:
        source = open_direct(store, platforms=place.platforms, max_size=place.store_size, keys=place.keys)
    except NoStore as error:
        raise Unreachable(say("{why}; and its store cannot be read: {error}", why=unreachable, error=error)) from error
    except PermissionError as error:
        path = store.removeprefix("sqlite:")
        raise Unreachable(
            say("{why}; {path} is for the service and root: try sudo", why=unreachable, path=path)
        ) from error
    name = store.rpartition("/")[2]
    words = "daemon not reachable at {address}; reading {name} directly"
    click.echo(say(words, address=place.admin, name=name) + place.admin_hint(), err=True)
    return source
