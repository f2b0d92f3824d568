"""The daemon of a demonstration: the command that a user runs, in a process of its own."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from relay.core.clock import elapsed_s
from relay.core.errors import RelayError
from relay.core.raw import JsonObject
from relay.standin.ports import free_port

# A start takes a second, but 25 on a machine that is busy with ten other things. A daemon that ends is told at once.
_START_S, _STOP_S, _END_S = 120.0, 20.0, 180.0
_LOOK_S = 0.05


class DemoFailed(RelayError):
    """The demonstration could not be completed."""


class DemoDaemon:
    """A daemon whose configuration, store and log lie in ``directory``; it may be started again after it ended."""

    def __init__(self, directory: Path) -> None:
        self.ingest, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.config = directory / "config.yaml"
        self.store = directory / "relay.db"
        self.log = directory / "daemon.log"
        self._process: Process | None = None

    def configure(self, text: str, *, target: str, limit: int) -> None:
        """Write the configuration: ``text`` with our addresses, the platform's URL and its limit."""
        values = {"ingest": self.ingest, "admin": self.admin, "store": self.store, "target": target, "limit": limit}
        self.config.write_text(text.format(**values), encoding="utf-8")

    async def start(self, http: aiohttp.ClientSession) -> Process:
        """Start it and wait until it is ready. Raises ``DemoFailed``."""
        with self.log.open("ab") as log:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay", "run", "-c", str(self.config)),
                stdin=DEVNULL, stdout=log, stderr=log, env=environment(),
            )  # fmt: skip

        async def ready() -> bool:
            if process.returncode is not None:
                raise DemoFailed(f"the daemon ended with exit code {process.returncode} before it was ready")
            try:
                async with http.get(f"http://{self.ingest}/readyz") as response:
                    return response.status == 200
            except (aiohttp.ClientError, OSError):
                return False  # not listening yet

        await until(ready, "the daemon to be ready", within_s=_START_S)
        return process

    async def close(self) -> None:
        """End it, by force where it does not end by itself."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ledger(self, http: aiohttp.ClientSession) -> dict[str, int]:
        """Return the total of its ledger. Raises ``DemoFailed``."""
        try:
            async with http.get(f"http://{self.admin}/v1/ledger") as response:
                response.raise_for_status()
                answer: JsonObject = await response.json()
        except (aiohttp.ClientError, OSError) as error:
            raise DemoFailed(f"the ledger at http://{self.admin}/v1/ledger cannot be read: {error}") from error
        total: dict[str, int] = answer["total"]
        return total

    def log_tail(self, lines: int = 30) -> list[str]:
        """Return the end of its log."""
        if not self.log.exists():
            return []
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, within_s: float = _END_S) -> None:
    """Wait for ``condition``. Raises ``DemoFailed`` after ``within_s`` seconds."""
    deadline = elapsed_s() + within_s
    while not await condition():
        if elapsed_s() > deadline:
            raise DemoFailed(f"waited {within_s:g} s in vain for {what}")
        await asyncio.sleep(_LOOK_S)


def environment() -> dict[str, str]:
    """Return our environment without the variables of a service manager: the demo's daemon is no service."""
    foreign = ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC")
    return {name: value for name, value in os.environ.items() if name not in foreign}
