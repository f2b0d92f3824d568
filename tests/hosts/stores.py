"""The stores that hosts share in the long form: a cluster, one behind sentinels, one behind a bad network.

Each can be started, killed and restarted; a restart is the trouble that is special to it.
"""

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

from tests.store.valkey import Sentinel, ValkeyCluster, ValkeyServer


class SharedServer(Protocol):
    """What a fleet needs of its store; ``restart`` blocks until it answers again."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def restart(self) -> None: ...


class OneNodeAtATime(ValkeyCluster):
    """A cluster of which one node after the other is killed and started again."""

    _turn = 0

    def restart(self) -> None:
        """Kill the next node, and wait until the cluster is whole again."""
        self._turn += 1
        self.nodes[self._turn % len(self.nodes)].restart()
        self.whole()


class BehindSentinels:
    """A primary and its replica. A restart is a failover; whoever was the primary comes back as the replica."""

    def __init__(self, directory: Path) -> None:
        self._servers = [ValkeyServer(directory / "one", **{"repl-diskless-sync-delay": "0"})]
        self._servers.append(
            ValkeyServer(
                directory / "two",
                **{"repl-diskless-sync-delay": "0", "replicaof": f"127.0.0.1 {self._servers[0].port}"},
            )
        )
        self._sentinel = Sentinel(directory / "sentinel", self._servers[0], down_after_ms=3000)

    @property
    def url(self) -> str:
        """Where the sentinel says who is the primary."""
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/main"

    def start(self) -> None:
        """Start both and the sentinel, and wait until it knows the replica."""
        for server in (*self._servers, self._sentinel):
            server.start()
        self._whole()

    def kill(self) -> None:
        """End all."""
        for server in (self._sentinel, *self._servers):
            server.kill()

    def restart(self) -> None:
        """Kill the primary, wait until the sentinel has switched, and let the former primary follow the new one."""
        primary, replica = self._servers
        primary.kill()
        told = str(replica.port).encode()
        primary.until(lambda: told in self._sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"))
        primary.settings["replicaof"] = f"127.0.0.1 {replica.port}"
        replica.settings.pop("replicaof", None)
        primary.start()
        self._servers = [replica, primary]
        self._whole()

    def _whole(self) -> None:
        primary = self._servers[0]
        primary.until_replica_follows()
        primary.until(lambda: b"num-slaves\r\n$1\r\n1" in self._sentinel.ask("SENTINEL", "MASTER", "main"))


class BadNetwork:
    """A server behind a proxy that delays what passes, and cuts connections in the middle of a reply."""

    def __init__(self, directory: Path, *, seed: int) -> None:
        self._server = ValkeyServer(directory)
        self._rng = random.Random(seed)
        self._listening: asyncio.Server | None = None
        self._passing: set[asyncio.Task[Any]] = set()
        self.cut = 0

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        assert self._listening is not None
        return f"redis://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}/0"

    async def listen(self) -> None:
        """Listen; before the fleet writes its files."""
        self._listening = await asyncio.start_server(self._join, "127.0.0.1", 0)

    def start(self) -> None:
        """Start the server."""
        self._server.start()

    def kill(self) -> None:
        """End server and proxy."""
        self._server.kill()
        if self._listening is not None:
            self._listening.close()
        for task in self._passing:
            task.cancel()

    def restart(self) -> None:
        """Kill the server and start it again."""
        self._server.restart()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._server.port)
        except OSError:
            writer.transport.abort()
            return
        for passing in (self._pass(reader, there, there, cuts=False), self._pass(back, writer, there, cuts=True)):
            self._keep(passing)

    def _keep(self, passing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(passing)
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, other: asyncio.StreamWriter, *, cuts: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                if self._rng.random() < 0.05:
                    await asyncio.sleep(self._rng.uniform(0, 0.3))
                if cuts and self._rng.random() < 0.005:
                    self.cut += 1
                    sink.write(data[: len(data) // 2])
                    await sink.drain()
                    break
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:  # cancelled too, when all ends
            sink.transport.abort()
            other.transport.abort()
