"""Opens the addresses that are listened on, and starts the processes that take posts in beside the daemon."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from relay.admin.http.server import AdminServer
from relay.core.clock import elapsed_s
from relay.core.errors import RelayError
from relay.daemon.live import LiveConfig
from relay.daemon.supervisor import Supervisor
from relay.ingest.server import IngestServer
from relay.store.base import Store
from relay.telemetry.events import Events
from relay.views.callback_view import CallbackView
from relay.web.inherited import inherited_sockets, shared_out

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


def take_in_beside(
    live: LiveConfig,
    store: Store,
    *,
    describe: Callable[[str], Awaitable[CallbackView | None]],
    expiring: Callable[[float], None],
    events: Events,
    supervisor: Supervisor,
    stack: AsyncExitStack,
) -> None:
    """Start ``ingest.processes`` for the addresses of the order center, which are open already."""
    if not live.config.ingest.processes:
        return
    from relay.daemon.acceptors.processes import Acceptors

    async def state(callback_id: str) -> str | None:
        found = await describe(callback_id)
        return None if found is None else found.state

    acceptors = Acceptors(
        config=live.config, servers=live.ingest, inbox=store, state=state, events=events, expiring=expiring
    )
    live.followers.append(acceptors.follow)
    supervisor.run("acceptors", acceptors.run())
    stack.push_async_callback(acceptors.stop, GRACE_S)
