"""The daemon put together, within this process: what it starts, what it wires to what, and how it stops."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from relay.config.load import load
from relay.core.clock import boottime_s
from relay.core.errors import RelayError, StoreFailed
from relay.core.model import Batch, ClaimRequest, Lane, NewCallback, Outcome
from relay.core.settlement import AttemptResult, Settlement
from relay.daemon import app, side_duties
from relay.daemon.restarts import Restarts
from relay.daemon.stores import open_store
from relay.daemon.systemd import Notifier
from relay.store.sqlite.backend import SqliteStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep import operations
from relay.upkeep.watchdog import Watchdog

pytestmark = pytest.mark.timeout(120)

FILE = """version: 1
ingest: {{listen: "unix:{directory}/in.sock"}}
admin: {{listen: "unix:{directory}/admin.sock"}}
store: {{keep: {{delivered: 1ms}}}}
platforms:
  shop-a: {{url: "http://127.0.0.1:{port}/", timeout: 20s, rate: 9/min, batch: {{max_items: 1}}}}
"""


class Served:
    """A daemon of this process, with a client for each side."""

    def __init__(self, directory: Path, task: "asyncio.Task[int]", lines: list[MutableMapping[str, Any]]) -> None:
        self.task = task
        self.lines = lines
        self.ingest = aiohttp.ClientSession("http://in", connector=aiohttp.UnixConnector(str(directory / "in.sock")))
        self.admin = aiohttp.ClientSession(
            "http://admin", connector=aiohttp.UnixConnector(str(directory / "admin.sock"))
        )

    async def post(self, body: bytes = b"{}", **headers: str) -> str:
        """Post a callback and return its id."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.ingest.post("/v1/platforms/shop-a/callbacks", data=body, headers=named) as response:
            answer: dict[str, str] = await response.json()
            return answer["id"]

    async def read(self, path: str) -> Any:
        """Return what the admin side says."""
        async with self.admin.get(path) as response:
            return await response.json(content_type=None)

    async def operate(self, action: str, ids: list[str]) -> dict[str, Any]:
        """Start an operation."""
        body = {"action": action, "filter": {"ids": ids}}
        async with self.admin.post("/v1/operations", json=body) as response:
            started: dict[str, Any] = await response.json()
            return started


class Hanging:
    """A platform that takes requests and answers none until it lets go of them."""

    def __init__(self) -> None:
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep a connection."""
        self._writers.append(writer)

    def let_go(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    """A platform that hangs."""
    made = Hanging()
    server = await asyncio.start_server(made.take, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    made.let_go()


@asynccontextmanager
async def served(directory: Path, port: int = 9, *, fault: str = "") -> AsyncIterator[Served]:
    """Run the daemon until the block ends, and then end it well; or let it end by itself for the ``fault``."""
    file = directory / "config.yaml"
    file.write_text(FILE.format(directory=directory, port=port))
    with structlog.testing.capture_logs() as lines:
        events = Events(log=structlog.get_logger(), metrics=Metrics())
        restarts = Restarts(str(directory))
        restarts.begin(boottime_s())
        config, metrics = load(str(file)), Metrics()
        serving = app.serve(config, version="0", events=events, metrics=metrics, restarts=restarts, template=None)
        task = asyncio.create_task(serving)
        made = Served(directory, task, lines)
        try:
            await until(lambda: _told(lines, "ready"), task)
            yield made
            if fault:
                with pytest.raises(RelayError, match=fault):
                    await asyncio.wait_for(task, 60)
                return
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            assert await asyncio.wait_for(task, 60) == 0
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await made.ingest.close()
            await made.admin.close()


async def _told(lines: list[MutableMapping[str, Any]], event: str) -> bool:
    return any(line["event"] == event for line in lines)


async def until(holds: Callable[[], Awaitable[bool]], task: "asyncio.Task[int]") -> None:
    """Wait for a condition while the daemon runs."""
    async with asyncio.timeout(60):
        while not await holds():
            assert not task.done(), task
            await asyncio.sleep(0.01)


async def _delivered_before(directory: Path) -> str:
    """Leave a store with one delivered callback; return its id."""
    store = await SqliteStore.open(directory / "relay.db")
    row = NewCallback("shop-a", b"{}", None, None, Lane.NORMAL, 3600.0, None, None, None, "")
    accepted = await store.accept([row])
    batch = await store.claim(ClaimRequest("shop-a", None, 1, 1 << 20, 2, 1, 0.0, 0, True))
    assert isinstance(batch, Batch)
    result = AttemptResult(Outcome.OK, store.clock.now(), 0.0, 200)
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop-a", result, delivered=[batch.items[0].seq]))
    await store.close()
    return accepted.ids[0]


async def test_what_need_not_be_kept_is_pruned(tmp_path: Path) -> None:
    """A callback delivered before the start, and over its time, is gone soon after it."""
    callback_id = await _delivered_before(tmp_path)
    async with served(tmp_path) as daemon:

        async def is_gone() -> bool:
            return (await daemon.read(f"/v1/callbacks/{callback_id}")).get("code") == "unknown_callback"

        await until(is_gone, daemon.task)


async def test_callbacks_expire_by_themselves(tmp_path: Path, hanging: Hanging) -> None:
    """One that waits behind another of its key ends as expired when its time is over, told by whoever accepted it."""
    async with served(tmp_path, hanging.port) as daemon:
        await daemon.post(Relay_Key="k")
        late = await daemon.post(Relay_Key="k", Relay_Expires="50ms")

        async def is_expired() -> bool:
            return bool((await daemon.read(f"/v1/callbacks/{late}"))["state"] == "expired")

        await until(is_expired, daemon.task)
        hanging.let_go()


async def test_operations_are_carried_out_and_go_on_after_a_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop of what waits is done at once; one of what is under way waits, and goes on when its answer came."""
    monkeypatch.setattr(operations, "_ELSEWHERE_S", 3600.0)  # as soon as it came, not when it looks again
    answer = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer.wait()
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    platform = await asyncio.start_server(take, "127.0.0.1", 0)
    async with served(tmp_path, platform.sockets[0].getsockname()[1]) as daemon:
        first = await daemon.post(Relay_Key="k")

        async def is_under_way() -> bool:
            return bool((await daemon.read(f"/v1/callbacks/{first}"))["in_flight"])

        await until(is_under_way, daemon.task)
        second = await daemon.post(Relay_Key="k")
        dropped = await daemon.operate("drop", [second])
        waits = await daemon.operate("drop", [first])

        async def is_done(number: int) -> bool:
            return (await daemon.read(f"/v1/operations/{number}"))["finished_at"] is not None

        await until(lambda: is_done(dropped["id"]), daemon.task)
        assert not await is_done(waits["id"])
        answer.set()
        await until(lambda: is_done(waits["id"]), daemon.task)
        assert (await daemon.read(f"/v1/callbacks/{first}"))["state"] == "dead"
    platform.close()


async def test_it_is_not_ready_while_it_stops(tmp_path: Path) -> None:
    """From the signal on readyz says that it stops, on a connection that is open already."""
    async with served(tmp_path) as daemon:
        # A request under way holds the listener open; its end is ours to choose.
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "in.sock"))
        writer.write(
            b"POST /v1/platforms/shop-a/callbacks HTTP/1.1\r\nHost: in\r\nContent-Length: 2\r\n\r\n{",
        )
        probe_reader, probe_writer = await asyncio.open_unix_connection(str(tmp_path / "in.sock"))
        probe = b"GET /readyz HTTP/1.1\r\nHost: in\r\n\r\n"
        probe_writer.write(probe)
        assert b" 200 " in await probe_reader.readline()
        await probe_reader.readuntil(b'{"status":"ok"}')

        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: _told(daemon.lines, "stopping"), daemon.task)
        probe_writer.write(probe)
        assert b" 503 " in await probe_reader.readline()
        assert b'"code":"stopping"' in await probe_reader.read()

        writer.write(b"}")
        assert b" 202 " in await reader.readline()
        writer.close()
        probe_writer.close()


@pytest.mark.parametrize(("allowed", "interval_s"), [("8000000", 4.0), (None, 5.0)])
async def test_the_watchdog_speaks_twice_in_the_time_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str | None, interval_s: float
) -> None:
    """sd_watchdog_enabled(3): half of what the service manager waits; without one every five seconds."""
    intervals: list[float] = []

    class Noted(Watchdog):
        def __init__(self, **given: Any) -> None:
            intervals.append(given["interval_s"])
            super().__init__(**given)

    monkeypatch.setattr(side_duties, "Watchdog", Noted)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.setblocking(False)
    said = {"NOTIFY_SOCKET": str(tmp_path / "notify")} | ({} if allowed is None else {"WATCHDOG_USEC": allowed})
    monkeypatch.setattr(app, "Notifier", lambda: Notifier(said))
    with manager:
        async with served(tmp_path):
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(60):
                words = {(await loop.sock_recv(manager, 4096)).split(b"\n")[0] for _ in range(2)}

    assert intervals == [interval_s]
    assert words == {b"READY=1", b"WATCHDOG=1"}


async def test_a_request_under_way_is_settled_before_the_end(tmp_path: Path) -> None:
    """The platform answers after the signal: what it took is delivered in the store, and told as finished."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    platform = await asyncio.start_server(take, "127.0.0.1", 0)
    async with served(tmp_path, platform.sockets[0].getsockname()[1]) as daemon:
        callback_id = await daemon.post()
        await asyncio.wait_for(asked.wait(), 20)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: _told(daemon.lines, "stopping"), daemon.task)
        answer.set()
    platform.close()

    store = await SqliteStore.open(tmp_path / "relay.db")
    found = await store.callback(callback_id)
    await store.close()
    assert found is not None
    assert found.state == "delivered"
    (line,) = [line for line in daemon.lines if line["event"] == "stopped"]
    assert line["unfinished"] == 0


async def test_the_configured_limits_hold_from_the_start(tmp_path: Path, hanging: Hanging) -> None:
    """The windows of the file are in force before the first callback is taken."""
    async with served(tmp_path, hanging.port) as daemon:
        (quota,) = (await daemon.read("/v1/platforms/shop-a"))["quotas"]
    assert (quota["limit"], quota["window_s"], quota["source"]) == (9, 60.0, "configured")


async def test_starts_that_did_not_end_well_are_counted(tmp_path: Path) -> None:
    """While it runs a start stands there as one that failed; a stop that was asked for takes it away, a fault not."""
    async with served(tmp_path):
        assert (tmp_path / "restarts").read_text().startswith("1 ")
    assert not (tmp_path / "restarts").exists()

    async with served(tmp_path, fault="stopped because thread worker ended"):
        threading.Thread(target=_fails, name="worker").start()
    assert (tmp_path / "restarts").read_text().startswith("1 ")


async def test_the_end_of_the_stores_thread_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be accepted any more: the service manager starts it again."""
    opened: list[Any] = []

    async def noted(config: Any, events: Events) -> Any:
        opened.append(await open_store(config, events))
        return opened[0]

    def ends(_transaction: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(app, "open_store", noted)
    monkeypatch.setattr(Watchdog, "run", lambda _: asyncio.Event().wait())  # it would see it too, but later
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # the loop hears of it too
    async with served(tmp_path, fault="stopped because store ended"):
        with pytest.raises(StoreFailed):
            await opened[0]._writer.call(ends)


async def test_the_end_of_any_thread_by_an_error_ends_the_process(tmp_path: Path) -> None:
    """Whatever it was for, it is a bug of ours: better a restart than half a relay."""
    async with served(tmp_path, fault="stopped because thread worker ended"):
        threading.Thread(target=_fails, name="worker").start()


def _fails() -> None:
    raise ZeroDivisionError
