"""A primary and a replica that misses the last writes when it takes the primary's place."""

import asyncio
from pathlib import Path

from relay.config.reading.server_urls import parse_server_url
from relay.store.redis.server.link import Durable, ServerLink
from tests.store.valkey import ValkeyServer


class Pair:
    """A primary and its replica behind one address, which leads to the primary until ``fail_over``."""

    def __init__(self, directory: Path) -> None:
        self.primary = ValkeyServer(directory / "primary", **{"repl-diskless-sync-delay": "0"})
        self.replica = ValkeyServer(
            directory / "replica", replicaof=f"127.0.0.1 {self.primary.port}", **{"repl-diskless-sync-delay": "0"}
        )
        self._port = self.primary.port
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The one address."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def listen(self) -> None:
        """Listen at the address."""
        self._listening = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]

    def start(self) -> None:
        """Start both."""
        self.primary.start()
        self.replica.start()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            beyond, there = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, there), (beyond, writer)):
            passing = asyncio.create_task(_pass(source, sink))
            self._passing.add(passing)
            passing.add_done_callback(self._passing.discard)

    async def part(self) -> None:
        """Let the replica have what was written up to now, and soon nothing more: it will be the next primary."""
        link = ServerLink.to(parse_server_url(self.replica.url), Durable())
        behind = ServerLink.to(parse_server_url(self.primary.url), Durable())
        written = (await behind.info("replication"))["master_repl_offset"]
        async with asyncio.timeout(40):
            while True:
                info = await link.info("replication")
                if info["master_link_status"] == "up" and info["slave_repl_offset"] >= written:
                    break
                await asyncio.sleep(0.02)
        await link.do("REPLICAOF", "NO", "ONE")
        await link.close()
        await behind.close()

    def fail_over(self) -> None:
        """End the primary; from now on the address leads to the former replica."""
        self._port = self.replica.port
        self.primary.kill()

    def heal(self) -> None:
        """Let the former primary follow the new one."""
        self.primary, self.replica = self.replica, self.primary
        self.primary.settings.pop("replicaof", None)
        self.replica.settings["replicaof"] = f"127.0.0.1 {self.primary.port}"
        self.replica.start()

    def restart(self) -> None:
        """Kill the primary and start it again."""
        self.primary.restart()

    def kill(self) -> None:
        """End all."""
        self._listening.close()
        for passing in list(self._passing):
            passing.cancel()
        self.primary.kill()
        self.replica.kill()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.transport.abort()
