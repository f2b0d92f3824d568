"""A real daemon for attacks: a process, watched from outside in memory, latency and slowness of the machine."""

import asyncio
import json
import math
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any

from relay.core.clock import elapsed_s
from relay.standin.ports import free_port
from tests.e2e.harness import Process, until

_SPIN_S = 0.004
_SPIN_EVERY_S = 0.05


class Slowness:
    """How much slower than alone a process of this machine runs now: wall time of a few ms of work over its CPU time.

    CI machines are shared. A bound in seconds is multiplied by this: it judges the relay and not its neighbours.
    """

    def __init__(self) -> None:
        self._ratios: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> "Slowness":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._stop.wait(_SPIN_EVERY_S):
            wall_s, cpu_s = elapsed_s(), time.thread_time()
            while time.thread_time() - cpu_s < _SPIN_S:
                pass
            self._ratios.append((elapsed_s() - wall_s) / (time.thread_time() - cpu_s))

    @property
    def factor(self) -> float:
        """One or more: what nine of ten pieces of work stayed below, for bounds are about the slowest answers."""
        ratios = sorted(self._ratios)
        return max(1.0, ratios[len(ratios) * 9 // 10])


class Daemon:
    """One running relay. ``ingest`` and ``admin`` are ports."""

    def __init__(
        self, directory: Path, platforms: dict[str, Any], *, store: str = "sqlite:relay.db", processes: int = 0
    ) -> None:
        self.ingest, self.admin = free_port(), free_port()
        config = {
            "version": 1,
            "ingest": {"listen": f"127.0.0.1:{self.ingest}", "processes": processes},
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "store": {"url": store},
            "platforms": platforms,
        }
        file = directory / "config.yaml"
        file.write_text(json.dumps(config))
        self.process = Process(directory / "daemon.log", "run", "-c", str(file))

    @property
    def acceptors(self) -> int:
        """How many processes take posts in beside it, by its log."""
        return self.process.output.read_text().count('"acceptor_started"')

    @property
    def shared_mb(self) -> float:
        """The memory that it and the processes below it have now. What several share is counted once."""
        return sum(_pss_kb(pid) for pid in below(self.process.pid)) * 1024 / 1e6

    @property
    def peak_mb(self) -> float:
        """The most memory that it alone ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6

    async def ready(self) -> bool:
        """Tell whether it answers."""
        assert self.process.running, self.process.tail()
        return (await call(self.ingest, "GET", "/readyz"))[0] == 200

    async def read(self, path: str) -> Any:
        """Return what the admin side says at ``path``."""
        status, answer = await call(self.admin, "GET", path)
        assert status == 200, answer
        return json.loads(answer)


@asynccontextmanager
async def attacked(port: int, *names: str) -> AsyncIterator[None]:
    """Let attacks go on, by their names or all, in a process of their own until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.attackers", str(port), *names),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()  # it has begun
        yield
        assert process.returncode is None, "the attackers gave up"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def below(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [pid, *(each for child in children for each in below(int(child)))]


def _pss_kb(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0])
    except (OSError, IndexError):  # it ends just now
        return 0


@asynccontextmanager
async def daemon(directory: Path, platforms: dict[str, Any], *, processes: int = 0) -> AsyncIterator[Daemon]:
    """Serve ``platforms`` until the block ends, with so many processes that take posts in beside the daemon."""
    made = Daemon(directory, platforms, processes=processes)

    async def take_posts() -> bool:
        return made.acceptors == processes

    try:
        await made.process.start()
        await until(made.ready, timeout_s=40, what="ready")
        await until(take_posts, timeout_s=40, what="acceptors take posts")
        yield made
    finally:
        await made.process.signal(SIGKILL)


async def call(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Send one request over a connection of its own; return status and body, status 0 where none came."""
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{named}\r\n"
    answer = await raw(port, head.encode() + body, until_closed=False)
    status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
    return status, answer.partition(b"\r\n\r\n")[2]


async def raw(port: int, data: bytes, *, until_closed: bool = True) -> bytes:
    """Send bytes; return the answer, or all that comes until the relay closes."""
    try:
        async with asyncio.timeout(90):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(data)
                if until_closed:
                    return await reader.read()
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                return head + await reader.readexactly(length)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return b""


def p99(samples: list[float]) -> float:
    """Return what one sample in a hundred exceeds; without samples it is endless."""
    return math.inf if not samples else sorted(samples)[min(len(samples) - 1, len(samples) * 99 // 100)]


assert sys.platform == "linux", "memory is read from /proc"
