"""Processes beside the daemon take posts in (`ingest.processes`): real processes and sockets, a store in memory."""

import asyncio
import ctypes
import errno
import gzip
import io
import json
import os
import resource
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from relay.config.load import load
from relay.core.clock import elapsed_s
from relay.core.errors import IdempotencyConflict, NoTarget, StoreError, StoreFailed, StoreFull
from relay.core.model import Accepted, NewCallback
from relay.daemon.acceptors import processes, starter
from relay.daemon.acceptors.child import Acceptor, is_ours
from relay.daemon.acceptors.duplex import Done, Duplex, Follows, FromDaemon, Hello, Moved, Use
from relay.daemon.acceptors.far_inbox import FarInbox
from relay.daemon.acceptors.near_end import NearEnd
from relay.daemon.acceptors.processes import Acceptors
from relay.daemon.acceptors.shared_room import SharedRoom, new_room
from relay.daemon.acceptors.starter import Starter
from relay.daemon.intake import directory, ingest_settings
from relay.ingest.intake import Intake
from relay.ingest.room import Room
from relay.ingest.server import IngestServer
from relay.store.base import OWN_ROWS_S, SHARED_ROWS_S
from relay.store.commit_watch import CommitWatch
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.web.connection.movable import MovableConnection
from relay.web.connection.protocol import HttpConnection
from relay.web.refusal import Refusal
from tests.faults.daemon import Slowness
from tests.integration import test_ingest
from tests.integration.test_ingest import StillClock, running

POST = "/v1/platforms/shop/callbacks"
NDJSON = {"Content-Type": "application/x-ndjson"}
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
CONFIG = """
version: 1
ingest: {listen: "127.0.0.1:0", processes: 1%s}
platforms:
  shop: {url: "http://127.0.0.1:9/", key: order_id}
  other: {url: "http://127.0.0.1:9/", group: shop_id, accept: {path: /drop/in, reply: {status: 200, body: "ok"}}}
routes: [{match: {event: "paid"}, to: [shop, other]}]
"""


async def until(condition: Any, what: str) -> None:
    """Wait for a condition: starting a process takes seconds on a busy machine."""
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


class Inbox(test_ingest.Inbox):
    """One that also takes routed posts."""

    waiting = 0

    async def accept(self, rows: Any) -> Accepted:
        self.waiting += self.gate is not None
        return await super().accept(rows)

    async def accept_posts(self, posts: Any) -> Any:
        return await self.store.accept_posts(posts)


class Daemon:
    """What of the daemon serves acceptors."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"
        self.file.write_text(CONFIG % "")
        self.config = load(self.file)
        self.store = MemoryStore(clock=StillClock())
        self.inbox = Inbox(self.store)
        self.log = io.BytesIO()
        self.metrics = Metrics()
        self.events = Events(log=make_logger(file=self.log, level="debug"), metrics=self.metrics)
        self.expiring: list[float] = []
        self.intake = Intake(inbox=self.inbox)
        self.server = IngestServer(
            settings=ingest_settings(self.config, "127.0.0.1:0"),
            directory=directory(self.config),
            intake=self.intake,
            ping=self.store.ping,
            describe=self.store.callback,
            openapi=lambda: b"{}",
            events=self.events,
            expiring=self.expiring.append,
        )

    async def start(self) -> None:
        """Listen, and start an acceptor."""
        await self.server.start()
        self.acceptors = Acceptors(config=self.config, template=None, inbox=self.inbox, events=self.events)
        self.running = asyncio.ensure_future(
            self.acceptors.run([self.server], state=self.state, expiring=self.expiring.append)
        )

    async def state(self, callback_id: str) -> str | None:
        """Return the state of a callback."""
        found = await self.store.callback(callback_id)
        return None if found is None else found.state

    async def reload(self, more: str) -> None:
        """Put another configuration in force, as a reload does."""
        self.file.write_text(CONFIG % more)
        config = load(self.file)
        self.server.configure(settings=ingest_settings(config, self.server.listen), directory=directory(config))
        await self.acceptors.follow(config, 1.0)

    @property
    def pid(self) -> int:
        """The process that takes posts in."""
        started = self.acceptors._places[0].started
        return 0 if started is None else started.pid

    async def stop(self) -> None:
        """End everything."""
        await self.acceptors.stop(2.0)
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.server.close(1.0)
        self.intake.close()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Daemon, aiohttp.ClientSession]]:
    """A daemon whose acceptor takes posts."""
    daemon = Daemon(folder)
    await daemon.start()
    async with aiohttp.ClientSession(f"http://{daemon.server.address}") as session:
        try:
            await until(lambda: daemon.metrics.acceptors == 1, "an acceptor takes posts")
            yield daemon, session
        finally:
            await daemon.stop()


async def ask(session: aiohttp.ClientSession, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    """Return status and body, on a connection of its own."""
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Connection": "close"}
    async with session.request(method, path, data=io.BytesIO(body) if body else None, headers=named) as response:
        raw = await response.read()
        return response.status, json.loads(raw) if raw[:1] in b"{[" else raw


async def test_posts_go_through_an_acceptor_and_all_else_through_the_daemon(tmp_path: Path):
    """Requests get the answers they get without acceptors: on any connection, after a reload, when the disk hangs."""
    async with served(tmp_path) as (daemon, session):  # one for all, as starting a process takes a second
        await one_connection(daemon)
        await each_kind(daemon, session)
        await a_store_that_hangs(daemon, session)
        await a_reload(daemon, session)


async def each_kind(daemon: Daemon, session: aiohttp.ClientSession) -> None:
    """What is accepted is stored and counted once."""
    at_daemon = daemon.server.listener._connections
    status, told = await ask(session, "POST", POST, b'{"order_id": 7}', Idempotency_Key="k", Relay_Expires="10s")
    assert (status, told["state"]) == (202, "pending")
    assert await ask(session, "POST", POST, b'{"order_id": 7}', Idempotency_Key="k", Relay_Expires="10s") == (
        202,
        told,
    )
    assert (await ask(session, "POST", POST, b"{}", Idempotency_Key="k"))[1]["code"] == "idempotency_conflict"
    assert (await ask(session, "POST", POST, b"{"))[1]["code"] == "invalid_json"
    assert (await ask(session, "POST", POST, b"{}\n{}\n", **NDJSON))[1]["accepted"] == 2
    assert await ask(session, "PUT", "/drop/in", b'{"shop_id": 1}') == (200, b"ok")
    assert set((await ask(session, "POST", "/v1/callbacks", b"{}", Relay_Event="paid"))[1]["ids"]) == {
        "shop",
        "other",
    }
    assert (await ask(session, "POST", "/v1/callbacks", b"{}"))[1]["code"] == "no_route"
    zipped = gzip.compress(b'{"order_id": 8}')
    assert (await ask(session, "POST", POST, zipped, Content_Encoding="gzip"))[0] == 202
    assert not at_daemon._open
    # What follows is the daemon's.
    large = b'{"order_id": 9}\n' * 9 + (b" " * 99 + b"\n") * 50_000
    assert (await ask(session, "POST", POST, large, **NDJSON))[1]["accepted"] == 9
    assert (await ask(session, "GET", f"/v1/callbacks/{told['id']}"))[1]["state"] == "pending"
    assert (await ask(session, "DELETE", f"/v1/callbacks/{told['id']}"))[0] == 200
    assert (await ask(session, "GET", "/readyz"))[0] == 200
    assert (await ask(session, "POST", "/v1/platforms/none/callbacks", b"{}"))[1]["code"] == "unknown_platform"
    assert (await ask(session, "POST", "/none", b"{}"))[0] == 404
    # A repeat tells how the callback stands, which only the daemon knows.
    repeat = await ask(session, "POST", POST, b'{"order_id": 7}', Idempotency_Key="k", Relay_Expires="10s")
    assert repeat[1]["state"] == "superseded"
    totals = await daemon.store.totals()
    assert {name: total.accepted for name, total in totals.items() if total.accepted} == {
        "shop": 22,
        "other": 2,
    }
    assert daemon.metrics.duplicates == Counter(shop=2)
    assert sum(daemon.metrics.dead.values()) == 1  # of the platform with a group
    assert 10.0 in daemon.expiring
    assert daemon.metrics.refused["ingest", "invalid_json"] == 1
    assert daemon.metrics.refused["ingest", "idempotency_conflict"] == 1


async def one_connection(daemon: Daemon) -> None:
    """A connection moves to the daemon with its first request that is no post. Pipelined ones are answered in order."""
    host, port = daemon.server.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    post = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" % POST.encode()
    question = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def answer() -> bytes:
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))

    for request, status in ((post, b"202"), (post, b"202"), (question, b"200"), (post, b"202"), (question, b"200")):
        writer.write(request)
        assert (await answer()).split()[1] == status
    writer.write(post + question + post)
    assert [(await answer()).split()[1] for _ in range(3)] == [b"202", b"200", b"202"]
    writer.write(b"what is this\r\n\r\n")
    assert (await answer()).split()[1] == b"400"
    writer.close()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(post)
    writer.write(post)  # in a piece of its own, or of the same: it is served after the first
    await asyncio.sleep(0)
    writer.write(post + question)
    assert [(await answer()).split()[1] for _ in range(4)] == [b"202", b"202", b"202", b"200"]
    writer.close()
    assert len(daemon.inbox.rows) == 8


async def a_reload(daemon: Daemon, session: aiohttp.ClientSession) -> None:
    """When a reload has ended, its token is asked for and its limits hold."""
    assert (await ask(session, "POST", POST, b"{}"))[0] == 202
    os.kill(daemon.pid, signal.SIGSTOP)  # it cannot follow yet
    reloading = asyncio.ensure_future(daemon.reload(', token: "secret", max_body: 1KiB'))
    await asyncio.wait((reloading,), timeout=0.1)
    assert not reloading.done()
    os.kill(daemon.pid, signal.SIGCONT)
    await reloading
    assert (await ask(session, "POST", POST, b"{}"))[0] == 401
    asked = {"Authorization": "Bearer secret"}
    assert (await ask(session, "POST", POST, b"{}", **asked))[0] == 202
    assert (await ask(session, "POST", POST, b'{"a": "%b"}' % (b"x" * 2000), **asked))[0] == 413
    assert b"secret" not in daemon.log.getvalue()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(processes, "_FOLLOW_S", 0.1)
        patched.setattr(processes, "_LOST", 1000)  # nothing but the reload ends it
        os.kill(daemon.pid, signal.SIGSTOP)
        await daemon.reload("")
        await until(lambda: daemon.metrics.acceptors_ended == 1, "one that does not follow is ended")


async def test_an_acceptor_that_is_killed_costs_its_requests_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No post is answered 202 without being stored, the daemon serves meanwhile, and another acceptor takes over."""
    monkeypatch.setattr(processes, "_FIRST_WAIT_S", 0.5)  # the next is started after a second
    async with served(tmp_path) as (daemon, session):
        answered: list[str] = []
        unclear = 0
        first, ends = daemon.pid, asyncio.Event()

        async def poster() -> None:
            nonlocal unclear
            while not ends.is_set():
                try:
                    async with session.post(POST, data=b'{"order_id": 1}') as response:
                        told = await response.json()
                except (aiohttp.ClientError, OSError):
                    unclear += 1
                    continue
                if response.status == 202:
                    answered.append(told["id"])
                else:  # the disk hung for too long
                    unclear += 1

        posters = [asyncio.ensure_future(poster()) for _ in range(8)]
        await until(lambda: len(answered) > 50, "posts are answered")
        gate = daemon.inbox.gate = asyncio.Event()
        await until(lambda: daemon.inbox.waiting >= 8, "posts wait for the disk")
        assert daemon.acceptors.room.others() > 0
        os.kill(first, signal.SIGKILL)
        await until(lambda: unclear >= 8, "clients are cut off")
        await until(lambda: daemon.metrics.acceptors == 0, "the daemon sees its end")
        assert daemon.acceptors.room.others() == 0  # else each one that ends takes room for good
        assert not daemon.server.listener._accepting[0]._resting
        waiting = len(answered)
        daemon.inbox.gate = None
        gate.set()
        await until(lambda: len(answered) > waiting + 50, "posts are answered meanwhile")
        await until(lambda: daemon.metrics.acceptors == 1 and daemon.pid != first, "another takes posts")
        await a_template_that_is_killed(daemon)
        ends.set()
        await asyncio.gather(*posters)
        assert (await ask(session, "POST", POST, b"{}"))[0] == 202
        stored = [await daemon.store.callback(each) for each in answered]
        assert None not in stored
        assert sum(total.accepted for total in (await daemon.store.totals()).values()) == len(daemon.inbox.rows)
        flows = daemon.metrics.render().decode()
        assert '"event":"acceptor_ended"' in daemon.log.getvalue().decode().replace(" ", "")
        assert "relay_ingest_processes 1.0" in flows


def template_of(daemon: Daemon) -> int:
    """Return the process that acceptors are forked from."""
    return int(Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[1])


async def a_template_that_is_killed(daemon: Daemon) -> None:
    """Acceptors end with it, and another template is started; where no other process does, the daemon reaps them."""
    libc, acceptor = ctypes.CDLL(None), Path(f"/proc/{daemon.pid}")
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # as process 1 of a container is
    os.kill(template_of(daemon), signal.SIGKILL)
    await until(lambda: daemon.metrics.acceptors == 0, "its acceptor ends")
    await until(lambda: not acceptor.exists(), "nothing is left of it")
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
    await until(lambda: daemon.metrics.acceptors == 1, "another takes posts")


async def test_one_that_ends_again_and_again_is_told_and_the_daemon_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is started after longer and longer waits. From the third end on `/readyz` says so, until one is well."""
    monkeypatch.setattr(processes, "_FIRST_WAIT_S", 0.01)
    async with served(tmp_path) as (daemon, session):
        for ends in range(1, 4):
            assert daemon.acceptors.lacking() == ""
            await until(lambda: daemon.metrics.acceptors == 1, "an acceptor takes posts")
            os.kill(daemon.pid, signal.SIGKILL)
            await until(lambda ends=ends: daemon.metrics.acceptors_ended == ends, "it ends")
        told = (
            "acceptors_lacking: 0 of 1 acceptors take posts in, the daemon does the rest; one ended 3 times in a row, "
        )
        assert daemon.acceptors.lacking().startswith(told + "with code -9;")
        waits = [
            json.loads(line)["wait_s"] for line in daemon.log.getvalue().splitlines() if b'"acceptor_ended"' in line
        ]
        assert waits == [0.02, 0.04, 0.08]
        await until(lambda: daemon.metrics.acceptors == 1, "an acceptor takes posts")
        assert daemon.acceptors.lacking()
        monkeypatch.setattr(processes, "_WELL_S", 0.0)
        assert daemon.acceptors.lacking() == ""
        # One that stands still keeps nobody waiting: the daemon takes connections itself, and ends it later.
        monkeypatch.setattr(processes, "_LOOK_EVERY_S", 0.2)
        monkeypatch.setattr(processes, "_LOST", 1_000_000)
        stopped = daemon.pid
        os.kill(stopped, signal.SIGSTOP)
        await until(lambda: "one does not answer" in daemon.acceptors.lacking(), "it is missed")
        async with asyncio.timeout(20):
            assert (await ask(session, "POST", POST, b"{}"))[0] == 202
        assert daemon.pid == stopped
        monkeypatch.setattr(processes, "_LOST", 3)
        await until(lambda: daemon.metrics.acceptors_ended == 4, "it is ended")
        monkeypatch.setattr(processes, "_LOST", 1_000_000)  # on a busy machine the next one may be slow to answer
        await until(lambda: daemon.metrics.acceptors == 1 and daemon.pid != stopped, "another takes posts")
        assert b"relay_ingest_processes_ended_total 4.0" in daemon.metrics.render()


async def test_a_template_that_stands_still_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What becomes of its acceptors is seen without it; another takes its place, and a stop does not wait for it."""
    monkeypatch.setattr(processes, "_FIRST_WAIT_S", 0.01)
    async with served(tmp_path) as (daemon, session):
        stopped, first = template_of(daemon), daemon.pid
        os.kill(stopped, signal.SIGSTOP)
        monkeypatch.setattr(starter, "_ANSWER_S", 0.1)
        os.kill(first, signal.SIGKILL)
        await until(lambda: daemon.metrics.acceptors == 0, "its end is seen")
        assert (await ask(session, "POST", POST, b"{}"))[0] == 202
        await until(lambda: daemon.metrics.acceptors_ended >= 2, "no answer comes")
        monkeypatch.setattr(starter, "_ANSWER_S", 30.0)
        await until(lambda: daemon.metrics.acceptors == 1, "another takes posts")
        assert template_of(daemon) != stopped
        os.kill(template_of(daemon), signal.SIGSTOP)
        async with asyncio.timeout(20):
            await daemon.acceptors.stop(30.0)


async def test_no_acceptor_runs_other_code_than_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After an upgrade a new template would; the daemon does without, and says that it wants a restart."""
    monkeypatch.setattr(processes, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(starter, "_CODE_HERE", (1, 1))
    daemon = Daemon(tmp_path)
    await daemon.start()
    await until(lambda: "replaced on the disk since this daemon started" in daemon.acceptors.lacking(), "it is told")
    await daemon.stop()


def test_the_room_for_requests_is_one_for_all_processes():
    """What others hold is taken; what an acceptor held that has ended is free again."""
    first = new_room(2)
    second, third = (SharedRoom(os.dup(first.descriptor), place, 3) for place in (1, 2))
    rooms = [Room(max_bytes=1_000_000, max_uploading_bytes=1_000_000, beside=each) for each in (first, second, third)]
    rooms[0].hold(400_000, 0)
    upload = rooms[1].upload(lambda: None)
    upload.grow(300_000)
    with pytest.raises(Refusal):
        rooms[2].hold(400_000, 0)
    with pytest.raises(Refusal):
        rooms[2].upload(lambda: None).grow(400_000)
    rooms[2].hold(300_000, 0)
    with pytest.raises(Refusal):
        upload.grow(100_000)
    rooms[2].hold(-300_000, 300_000)
    upload.end()
    assert [each.others() for each in (first, second, third)] == [0, 400_000, 400_000]
    rooms[2].hold(600_000, 0)
    first.clear(2)
    assert first.others() == 0
    rooms[0].hold(600_000, 0)


async def test_a_daemon_that_stands_still_holds_up_no_posts(tmp_path: Path):
    """Connections that shall move wait until it takes them, however many; meanwhile posts go on."""
    async with running() as relay:
        given, taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stream = Stream()
        acceptor = Acceptor(given, new_room(1))
        acceptor._stream = stream  # type: ignore[assignment]
        clients = [socket.socketpair() for _ in range(600)]
        moving = [Moving(ours) for ours, _ in clients]
        for connection in moving:
            assert acceptor._move(0, relay.server, connection, b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[arg-type]
        assert 0 < sum(connection.closed for connection in moving) < 600
        moving[-1].transport = None  # the client has gone
        taken.setblocking(False)
        count = 0
        async with asyncio.timeout(20):
            while count < 599:
                with suppress(BlockingIOError):
                    _, descriptors, _, _ = socket.recv_fds(taken, 8, 1)
                    count += 1
                    os.close(*descriptors)
                    continue
                await asyncio.sleep(0)
        assert all(connection.closed for connection in moving[:-1])
        assert [message.number for message in stream.sent] == list(range(599))
        for pair in clients:
            for each in pair:
                each.close()
        given.close()
        taken.close()


class Refusing(socket.socket):
    """A socket pair's end when too many descriptors are under way."""

    def sendmsg(self, *_: object) -> int:
        """Refuse."""
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))


async def test_a_connection_that_cannot_be_given_away_is_cut_off():
    """Too many descriptors are under way between all processes: its client tries again, and the others go on."""
    async with running() as relay:
        given, taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        refusing, stream = Refusing(fileno=given.detach()), Stream()
        acceptor = Acceptor(refusing, new_room(1))
        acceptor._stream = stream  # type: ignore[assignment]
        client, its = socket.socketpair()
        connection = Moving(its)
        assert acceptor._move(0, relay.server, connection, b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[arg-type]
        assert connection.closed
        assert (stream.sent, len(acceptor._leaving)) == ([], 0)
        for each in (refusing, taken, client, its):
            each.close()


class Stream:
    """What is said over the stream."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        """Note it."""
        self.sent.append(message)


class Moving:
    """A connection that shall move."""

    def __init__(self, client: socket.socket) -> None:
        self.transport: Any = self
        self.closed = False
        self._client = client

    def get_extra_info(self, _name: str) -> socket.socket:
        """Return its socket."""
        return self._client

    def force_close(self) -> None:
        """Note it."""
        self.closed = True


async def test_acceptors_that_start_at_once_come_from_one_template(monkeypatch: pytest.MonkeyPatch):
    """Where a template has ended, all places start at once: one new template is started for all of them."""
    starter, channels = Starter(None), []

    async def another() -> socket.socket:
        await asyncio.sleep(0)  # as long as a process takes to start
        channels.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        return channels[-1][0]

    monkeypatch.setattr(starter, "_another", another)
    starting = asyncio.gather(starter.start(1, 3, []), starter.start(2, 3, []))
    await until(lambda: starter._channel is not None and len(starter._asked) == 2, "both are asked for")
    ((_, its),) = channels
    assert [its.recv(64), its.recv(64)] == [b"+1 3", b"+2 3"]
    its.send(b"+101")
    its.send(b"+102")
    assert [started.pid for started in await starting] == [101, 102]
    await starter.close()
    its.close()


async def test_an_acceptor_that_cannot_be_watched(monkeypatch: pytest.MonkeyPatch):
    """Without a descriptor left for it the start fails, and the next one is answered as ever."""
    starter, (ours, its) = Starter(None), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watched = os.pidfd_open

    async def another() -> socket.socket:
        return ours

    def no_more(*_: int) -> int:
        monkeypatch.setattr(os, "pidfd_open", watched)
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(starter, "_another", another)
    monkeypatch.setattr(os, "pidfd_open", no_more)
    starting = asyncio.gather(starter.start(1, 3, []), starter.start(2, 3, []), return_exceptions=True)
    await until(lambda: len(starter._asked) == 2, "both are asked for")
    for message in (b"+101", b"=101 0", b"+%d" % os.getpid()):
        its.send(message)
    refused, started = await starting
    assert isinstance(refused, OSError)
    assert refused.errno == errno.EMFILE
    assert started.pid == os.getpid()
    await starter.close()
    its.close()


async def test_a_start_that_nobody_waits_for_any_more(monkeypatch: pytest.MonkeyPatch):
    """Its acceptor is told all the same, and is nobody's: the next one who asks gets the next."""
    starter = Starter(None)
    channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: failed.append(about))

    async def another() -> socket.socket:
        return channel

    monkeypatch.setattr(starter, "_another", another)
    given_up, waiting = (asyncio.ensure_future(starter.start(place, 3, [])) for place in (1, 2))
    await until(lambda: len(starter._asked) == 2, "both are asked for")
    given_up.cancel()
    for told in (b"+101", b"+102", b"=101 0"):
        its.send(told)
    assert (await waiting).pid == 102
    await until(lambda: list(starter._running) == [102], "the end of the other is told")
    assert failed == []
    await starter.close()
    its.close()


def near_end(daemon: Daemon, **other: Any) -> NearEnd:
    """The daemon's end of the stream to an acceptor."""
    parts: dict[str, Any] = {"take": lambda *_: None, "listeners": []}
    return NearEnd(
        inbox=daemon.inbox,
        watch=CommitWatch(daemon.inbox, 0.9),
        state=daemon.state,
        events=daemon.events,
        expiring=lambda _: None,
        ready=lambda: None,
        config=lambda: daemon.config,
        **parts | other,
    )


async def test_reloads_while_an_acceptor_starts(tmp_path: Path):
    """It gets no configuration before its sockets, takes two that follow each other, and the reload waits for both."""
    daemon = Daemon(tmp_path)
    moving, its_moving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening = socket.create_server(("127.0.0.1", 0))
    near = near_end(daemon, listeners=[[listening]])
    told, stream = Stream(), Stream()
    near._stream, near._moving = told, moving  # type: ignore[assignment]
    near.send()
    assert told.sent == []
    near._received(Hello())
    near.send()
    assert [type(message) for message in told.sent] == [Use, Use]
    acceptor = Acceptor(its_moving, new_room(1))
    acceptor._stream = stream  # type: ignore[assignment]
    await asyncio.gather(*(acceptor._use(daemon.config) for _ in told.sent))
    assert stream.sent == [Follows(), Follows()]
    near._received(Follows())
    assert not near._in_force.is_set()
    near._received(Follows())
    await near.in_force()
    assert acceptor._inbox.slowest_rows_s == OWN_ROWS_S
    daemon.file.write_text(CONFIG % "" + "store: {url: redis://127.0.0.1:1/0}\n")
    await acceptor._use(load(daemon.file))
    assert acceptor._inbox.slowest_rows_s == SHARED_ROWS_S  # else posts get 503 while the server is still at them
    for server in acceptor._servers:
        await server.close(0.0)
    daemon.intake.close()
    for each in (moving, its_moving, listening):
        each.close()


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_frame_may_come_in_pieces(size: int):
    """However the socket cuts the stream, each message is read once, and in order."""
    messages = [Done(number, ["x" * number], []) for number in range(40)]
    frames = [msgspec.msgpack.encode(messages[at : at + 3]) for at in range(0, 40, 3)]
    whole = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    read: list[Any] = []
    stream = Duplex(FromDaemon, read.append, lambda: None)
    for at in range(0, len(whole), size):
        stream.data_received(whole[at : at + size])
    assert read == messages
    assert not stream._read


@pytest.mark.parametrize("told_first", [True, False])
async def test_a_connection_for_which_no_descriptor_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_first: bool
):
    """Its client is cut off, as the kernel closes it, and nothing is kept of it; the next one is served."""
    taken: list[bytes] = []
    near = near_end(Daemon(tmp_path), take=lambda _, client, data: (client.close(), taken.append(data)))
    near._moving, its_moving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near._moving.setblocking(False)
    client, its = socket.socketpair()
    for number, data in ((0, b"lost"), (1, b"served")):
        socket.send_fds(its_moving, [number.to_bytes(8, "big")], [its.fileno()])
        if told_first:
            near._received(Moved(number, 0, data))
        with no_descriptor_left() if number == 0 else nullcontext():
            near._comes()
        if not told_first:
            near._received(Moved(number, 0, data))
    assert taken == [b"served"]
    assert (near._sockets, near._moved) == ({}, {})
    for each in (near._moving, its_moving, client, its):
        each.close()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def a_store_that_hangs(daemon: Daemon, session: aiohttp.ClientSession) -> None:
    """Where nothing is committed, an acceptor answers 503, and recovers by itself."""
    gate = daemon.inbox.gate = asyncio.Event()
    with Slowness() as slowness:
        began_s = elapsed_s()
        status, told = await ask(session, "POST", POST, b"{}")
        waited_s = elapsed_s() - began_s
    assert (status, told["code"]) == (503, "store_failed")
    print(f"refused after {waited_s:.3f} s, the machine is {slowness.factor:.1f} times as slow as when idle")
    assert waited_s < 1.0 * slowness.factor  # I12
    daemon.inbox.gate = None
    gate.set()
    assert (await ask(session, "POST", POST, b"{}"))[0] == 202
    daemon.inbox.error = StoreFull("it is full")
    assert (await ask(session, "POST", POST, b"{}"))[1]["code"] == "store_full"
    daemon.inbox.error = None


@pytest.mark.parametrize(
    "error", [StoreFull("full"), StoreFailed("failed"), IdempotencyConflict(3), NoTarget(2), RuntimeError("a bug")]
)
async def test_errors_of_the_store_keep_their_kind_over_the_stream(error: Exception):
    """What the store says reaches the acceptor as the same error; a bug of the store as a commit that failed."""
    inbox = Inbox(MemoryStore(clock=StillClock()))
    inbox.error = error
    near_socket, far_socket = socket.socketpair()
    moving, _its_moving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log = io.BytesIO()
    far: FarInbox
    stream = Duplex(FromDaemon, lambda message: far.answered(message), lambda: None)
    far = FarInbox(stream)

    async def state(_: str) -> str | None:
        raise error

    near = NearEnd(
        inbox=inbox,
        watch=CommitWatch(inbox, 0.9),
        state=state,
        take=lambda *_: None,
        events=Events(log=make_logger(file=log), metrics=Metrics()),
        expiring=lambda _: None,
        ready=lambda: None,
        config=lambda: None,  # type: ignore[arg-type, return-value]
        listeners=[],
    )
    await near._stream.open(near_socket)
    near._moving = moving
    await stream.open(far_socket)
    row = NewCallback("shop", b"{}", None, None, 1, 60.0, None, None, None, "")
    with pytest.raises(StoreFailed if isinstance(error, RuntimeError) else type(error)) as raised:
        await far.accept([row])
    assert (b"handler_failed" in log.getvalue()) == isinstance(error, RuntimeError)
    assert "a bug" not in str(raised.value)  # its message may hold anything
    log.truncate(0)
    assert getattr(raised.value, "index", 0) == getattr(error, "index", 0)
    async with asyncio.timeout(20):
        with pytest.raises(StoreFailed):
            await far.state("x")
    assert (b"handler_failed" in log.getvalue()) != isinstance(error, StoreError)
    inbox.error = None
    assert isinstance(await far.accept([row, row]), Accepted)
    assert inbox.rows == [row, row]
    stream.close()
    near.close()
    _its_moving.close()
    await asyncio.sleep(0)


async def test_what_an_acceptor_serves():
    """One whole head of a post with a length that is not large, and nothing behind it; all else is the daemon's."""
    async with running() as relay:
        head = b"POST /v1/platforms/shop-a/callbacks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        assert is_ours(head % 2 + b"{}", relay.server)
        assert is_ours(head % 60_000 + b"{}", relay.server)
        for other in (
            (head % 2)[:-1],
            head % 2 + b"{}G",
            head % 70_000,
            head.replace(b"Host", b"Content-encoding: gzip\r\nHost") % 2 + b"{}",
            head.replace(b"POST", b"GET") % 0,
            head.replace(b"Length: %d", b"Encoding: gzip"),
            head.replace(b"/v1/platforms", b"/v2") % 2,
            head.replace(b"POST", b"\r\nPOST") % 2,
            head.replace(b"%d", b"002") + b"{}",  # how long it is the connection itself leaves to aiohttp
            b"",
        ):
            assert not is_ours(other, relay.server)


@pytest.mark.parametrize("before", [0, 4])  # after four the head is known, and the post is served without aiohttp
async def test_a_connection_moves_only_when_its_last_post_is_answered(before: int):
    """A request that is not the acceptor's waits behind a post that is, and only that request moves."""
    post = b"POST /v1/platforms/shop-a/callbacks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    question = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    moved: list[bytes] = []

    async with running() as relay:

        def move(connection: HttpConnection, data: bytes) -> bool:
            if is_ours(data, relay.server):
                return False
            moved.append(data)
            connection.force_close()
            return True

        relay.server.listener._move = move
        reader, writer = await asyncio.open_connection(*relay.endpoint)
        for _ in range(before):
            writer.write(post)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
        gate = relay.inbox.gate = asyncio.Event()
        writer.write(post)
        await until(lambda: relay.intake.admission.room.held_bytes > 0, "the post waits for its commit")
        (connection,) = relay.server.listener._connections._open
        assert isinstance(connection, MovableConnection)
        writer.write(question)
        await until(lambda: connection._held == question, "the question is read")
        assert moved == []
        gate.set()
        async with asyncio.timeout(20):
            answered = await reader.read()
        writer.close()
    assert answered.startswith(b"HTTP/1.1 202 ")
    assert answered.count(b"HTTP/1.1") == 1
    assert moved == [question]


async def test_a_connection_moves_only_when_its_answers_are_sent():
    """Two processes never write to one client: what of an answer is still here goes out first."""
    moved: list[bytes] = []

    async with running() as relay:

        def move(connection: HttpConnection, data: bytes) -> bool:
            moved.append(data)
            connection.force_close()
            return True

        relay.server.listener._move = move
        client = socket.create_connection(relay.endpoint)
        client.setblocking(False)
        await until(lambda: relay.server.listener._connections._open, "it is connected")
        (connection,) = relay.server.listener._connections._open
        assert isinstance(connection, MovableConnection)
        await until(lambda: connection._sleeps, "it waits for a request")
        answers = b"x" * 20_000_000
        connection.transport.write(answers)
        client.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        await until(lambda: connection._held, "the question is read")
        assert connection._unsent
        assert moved == []
        received = 0
        async with asyncio.timeout(20):
            while part := await asyncio.get_running_loop().sock_recv(client, 1 << 20):
                received += len(part)
        client.close()
    assert received == len(answers)
    assert moved == [b"GET /livez HTTP/1.1\r\n\r\n"]


def test_what_does_not_go_together_is_told(tmp_path: Path):
    """TLS and spans are the daemon's alone: with them `ingest.processes` is refused."""
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG % "" + "telemetry: {otlp: http://127.0.0.1:4318}\n")
    with pytest.raises(Exception, match=r"ingest.processes does not go with telemetry.otlp: only the daemon .* spans"):
        load(file)
