"""The daemon as ``relay run`` puts it together, without sockets: posts go to its router, deliveries to actors."""

import io
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import HttpVersion11, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage
from aiohttp.web import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy
from relay.admin.http.server import AdminServer
from relay.config.schema.file import Config
from relay.daemon.app import RelayDaemon
from relay.daemon.supervisor import Supervisor
from relay.daemon.systemd import Notifier
from relay.delivery.sender import Sender
from relay.delivery.terms import Terms
from relay.ingest.server import IngestServer
from relay.store.base import Store
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from yarl import URL

INGEST, ADMIN = "127.0.0.1:8787", "127.0.0.1:8788"


class SimulatedDaemon(RelayDaemon):
    """The product's own wiring. Only its listeners' sockets and the connections to platforms are played."""

    open_platform: Callable[[Terms], Sender]
    servers: Mapping[str, AdminServer | IngestServer]
    store: Store

    async def _open_store(self) -> Store:
        self.store = await super()._open_store()
        return self.store

    def _open_platform(self, terms: Terms) -> Sender:
        return self.open_platform(terms)

    async def _listen(self, servers: Any) -> None:
        self.servers = {server.name: server for server in servers}


class Life:
    """One start of the daemon, until it ends."""

    def __init__(self, config: Config, open_platform: Callable[[Terms], Sender]) -> None:
        self.log = io.BytesIO()
        self.metrics = Metrics()
        self.ready = False
        self._config = config
        self._open_platform = open_platform
        self.supervisor = _QuietSupervisor()

    async def run(self) -> None:
        """Start the daemon and wait for its end. Raises what ended it."""
        events = Events(log=make_logger(file=self.log, level="info"), metrics=self.metrics)
        async with AsyncExitStack() as stack:
            daemon = self.daemon = SimulatedDaemon(
                self._config, "0", events, self.metrics, Notifier(), self.supervisor, stack
            )
            daemon.open_platform = self._open_platform
            await daemon.start()
            self.ready = True
            fault = await self.supervisor.wait()
            self.ready = False
        if fault is not None:
            raise fault

    async def ask(self, listener: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        """Return the listener's response to one request."""
        server = self.daemon.servers[listener]
        return await server._router(_request(server.listen, method, path, headers, body))


class _QuietSupervisor(Supervisor):
    def on_signal(self, number: Any, act: Callable[[], None] | None = None) -> None:
        """Nobody sends signals here."""


def _request(host: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> BaseRequest:
    import asyncio

    loop = asyncio.get_running_loop()
    fields = CIMultiDict({"Host": host, "Content-Length": str(len(body)), **headers})
    message = RawRequestMessage(
        method, path, HttpVersion11, CIMultiDictProxy(fields), (), False, None, False, False, URL(path)
    )
    protocol = _Protocol(loop)
    content = StreamReader(protocol, 2**16, loop=loop)
    content.feed_data(body)
    content.feed_eof()
    task = asyncio.current_task()
    return BaseRequest(message, content, protocol, None, task, loop)  # type: ignore[arg-type]


class _Protocol(BaseProtocol):
    """A connection on which nothing is written: the response is taken from the router."""

    ssl_context = None
    sockname = ("127.0.0.1", 8787)
    peername = ("127.0.0.1", 1)
