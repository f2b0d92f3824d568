"""Opens the addresses that are listened on, and starts the processes that take posts in beside the daemon."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from relay.admin.http.server import AdminServer
from relay.config.schema.file import Config
from relay.core.clock import elapsed_s
from relay.core.errors import RelayError
from relay.daemon.live import LiveConfig
from relay.daemon.supervisor import Supervisor
from relay.ingest.server import IngestServer
from relay.store.base import Inbox
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.views.callback_view import CallbackView
from relay.web.inherited import inherited_sockets, shared_out

if TYPE_CHECKING:
    from relay.daemon.acceptors.processes import Acceptors
    from relay.daemon.acceptors.template import Forked

PATIENCE_S = 2.0  # with an address that is in use
_AGAIN_S = 0.05
GRACE_S = 10.0  # for requests under way, in and out; the unit's TimeoutStopSec is longer


async def listen(servers: Sequence[AdminServer | IngestServer], stack: AsyncExitStack, *, patience_s: float) -> None:
    """Open the addresses, on sockets that systemd passed where it did.

    An address in use is tried again for ``patience_s``: acceptors of a daemon that was killed end a moment after it.
    """
    sockets = inherited_sockets(os.environ, pid=os.getpid())
    shares = await shared_out(sockets, [(server.name, server.listen) for server in servers])
    for server, share in zip(servers, shares, strict=True):
        await _start(server, share, patience_s)
        stack.push_async_callback(server.close, GRACE_S)


async def _start(server: AdminServer | IngestServer, share: Sequence[socket.socket], patience_s: float) -> None:
    until_s = elapsed_s() + patience_s
    while True:
        try:
            await server.start(inherited=share)
        except RelayError as error:
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE or elapsed_s() >= until_s:
                raise
            await asyncio.sleep(_AGAIN_S)
        else:
            return


def acceptors_of(
    config: Config, template: "Forked | None", *, inbox: Inbox, events: Events, metrics: Metrics
) -> "Acceptors | None":
    """Return the processes that take posts in beside this one, none of which runs yet; None where none shall."""
    if not config.ingest.processes:
        return None
    from relay.daemon.acceptors.processes import Acceptors  # with it what only they need

    acceptors = Acceptors(config=config, template=template, inbox=inbox, events=events)
    metrics.acceptors_lacking = acceptors.lacking
    return acceptors


def take_in_beside(
    acceptors: "Acceptors | None",
    live: LiveConfig,
    *,
    describe: Callable[[str], Awaitable[CallbackView | None]],
    supervisor: Supervisor,
    stack: AsyncExitStack,
) -> None:
    """Start ``ingest.processes``, if there are any, for the addresses of the order center, which are open already."""
    if acceptors is None:
        return

    async def state(callback_id: str) -> str | None:
        found = await describe(callback_id)
        return None if found is None else found.state

    live.followers.append(acceptors.follow)
    supervisor.run("acceptors", acceptors.run(live.ingest, state=state, expiring=live.ingest[0].expiring))
    stack.push_async_callback(acceptors.stop, GRACE_S)
