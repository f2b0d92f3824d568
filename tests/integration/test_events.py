"""Server-sent events of the admin listener: what stands, then what changes, for any number of clients."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from relay.admin.http.event_client import EventStream
from relay.admin.standing import feed
from relay.admin.standing.feed import Feed, Topic, changed_ledger, changed_platforms
from tests.integration.admin_side import USERS, AdminSide, admin_side


class Stream:
    """The events of one connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> str:
        """Return the next event or comment as it came."""
        async with asyncio.timeout(20):
            lines = []
            while (line := (await self.response.content.readline()).decode()) not in ("\n", ""):
                lines.append(line)
            return "".join(lines)

    async def next(self, name: str) -> Any:
        """Return the data of the next event called ``name``."""
        while True:
            block = await self.block()
            assert block, "the stream ended"
            head, _, rest = block.partition("\n")
            if head == f"event: {name}":
                return json.loads(rest.removeprefix("data: "))


@asynccontextmanager
async def watching(side: AdminSide, *, role: str = "viewer") -> AsyncIterator[Stream]:
    """Open the stream."""
    headers = {"Authorization": f"Bearer {role}-token"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(side.url, headers=headers, timeout=timeout, read_bufsize=2**22) as session,
        session.get("/v1/events") as response,
    ):
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield Stream(response)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than every half second."""
    monkeypatch.setattr(feed, "EVERY_S", 0.02)
    monkeypatch.setattr(feed, "_REST", 0)


async def test_state_comes_first_then_changes() -> None:
    """At connect all that stands, as the other routes tell it; then each kind of change in events of its own."""
    async with admin_side(users=USERS) as side, watching(side) as stream:
        state = await stream.next("state")
        assert list(state) == ["platforms", "ledger", "operation", "alerts", "config"]
        assert [each["name"] for each in state["platforms"]["items"]] == ["shop-a", "shop-b"]
        assert state["ledger"]["total"]["accepted"] == 0
        await side.accept(3)
        changed = await stream.next("platforms")
        assert [(each["name"], each["pending"]) for each in changed["items"]] == [("shop-a", 3)]
        assert changed["gone"] == []
        told = await stream.next("ledger")
        assert (told["total"]["accepted"], list(told["platforms"])) == (3, ["shop-a"])
        side.control.facts["shop-b"] = {"paused": True}
        (paused,) = (await stream.next("platforms"))["items"]
        assert (paused["name"], paused["state"]) == ("shop-b", "paused")
        headers = {"Authorization": "Bearer operator-token"}
        async with aiohttp.ClientSession(side.url, headers=headers) as session:
            body = {"action": "drop", "filter": {"platform": "shop-a"}}
            async with session.post("/v1/operations", json=body) as response:
                assert response.status == 202
        operation = await stream.next("operation")
        assert (operation["action"], operation["state"], operation["matched"]) == ("drop", "running", 3)
        await side.store.step_operation(operation["id"], 10)
        assert (await stream.next("operation"))["state"] == "done"


async def test_a_comment_keeps_it_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 15 s something comes; whoever may not watch any more is let go then."""
    monkeypatch.setattr(feed, "COMMENT_S", 0.05)
    async with admin_side(users=USERS) as side, watching(side) as stream:
        await stream.next("state")
        assert await stream.block() == ": still here\n"
        side.access.replace([])
        side.access.replace([user for user in USERS if user.role != "viewer"])
        async with asyncio.timeout(20):
            while await stream.block():
                pass
        assert stream.response.content.at_eof()


async def test_one_look_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty who watch cost one look each time, and none when nobody watches."""
    monkeypatch.setattr(feed, "EVERY_S", 1.5)  # both have joined before the second look
    async with admin_side(users=USERS) as side:
        looks = 0
        status = side.store.platform_status

        async def counted() -> Any:
            nonlocal looks
            looks += 1
            return await status()

        monkeypatch.setattr(side.store, "platform_status", counted)
        async with watching(side) as first, watching(side) as second:
            for stream in (first, second):
                await stream.next("state")
            assert looks == 1  # the first one's
            await side.accept()
            assert (await first.next("ledger")) == (await second.next("ledger"))


class _Slow:
    """A request whose client has stopped reading: all that is written waits."""

    def __init__(self) -> None:
        self.transport = self
        self.method = "GET"
        self.waiting = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


async def test_who_does_not_read_is_cut_off() -> None:
    """A client for which more than 64 KiB wait is closed at the next event, however large the first one was."""
    stands: dict[str, Any] = {"text": "x" * 200_000}

    async def look() -> Any:
        return dict(stands)

    made = Feed([Topic("platforms", look, lambda _before, now: [now["n"]])], failed=pytest.fail)
    slow: Any = _Slow()
    stream = EventStream(made, lambda _request: pytest.fail("nobody asks who it is"))
    await stream.prepare(slow)
    served = asyncio.create_task(stream.write_eof())
    async with asyncio.timeout(20):
        while not slow.waiting > 200_000:
            await asyncio.sleep(0)
        first = slow.waiting
        number = 0
        while not served.done():
            number += 1
            stands["n"] = str(number) * 8_000
            await asyncio.sleep(0.005)
    assert (slow.aborted, made.watchers) == (True, 0)
    assert 65_536 < slow.waiting - first < 65_536 + 50_000


async def test_a_socket_that_never_reads_is_cut_off_and_the_others_go_on() -> None:
    """A real one: what waits for it stays bounded, its connection ends, and the metric counts one client less."""
    async with admin_side(users=USERS) as side, watching(side) as other:
        host, _, port = side.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewer-token\r\n\r\n")
            await _until(lambda: side.api.watchers == 2)
            assert "relay_sse_clients 2.0" in await _metrics(side)
            most = 0
            for number in range(1000):
                if side.api.watchers < 2:
                    break
                side.control.facts["shop-a"] = {"paused": True, "pause_reason": f"{number} {'x' * 20_000}"}
                told = await other.next("platforms")
                assert told["items"][0]["reason"].startswith(f"{number} ")
                most = max(most, *(_waiting(each) for each in _watchers(side)))
            assert "relay_sse_clients 1.0" in await _metrics(side)
            assert 64 * 1024 < most < 64 * 1024 + 2 * 21_000
            silent.settimeout(20)
            left = 0
            while part := silent.recv(65_536):  # what the kernels held, then the end
                left += len(part)
            assert left > 0


def _watchers(side: AdminSide) -> list[Any]:
    return [watcher for each in side.api._feeds.values() for watcher in each._watchers]


def _waiting(watcher: Any) -> int:
    size: int = watcher._watched.transport.get_write_buffer_size()
    return size


async def _metrics(side: AdminSide) -> str:
    headers = {"Authorization": "Bearer viewer-token"}
    async with aiohttp.ClientSession(side.url, headers=headers) as session, session.get("/metrics") as response:
        return await response.text()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_only_what_changed_is_told() -> None:
    """Of platforms and of the ledger those that changed, and the platforms that are gone."""
    before = {"items": [{"name": "a", "pending": 1}, {"name": "b", "pending": 1}, {"name": "c", "pending": 1}]}
    now = {"items": [{"name": "a", "pending": 1}, {"name": "b", "pending": 2}, {"name": "d", "pending": 1}]}
    (told,) = changed_platforms(before, now)
    assert told == {"items": now["items"][1:], "gone": ["c"]}
    ledger = {"total": {"accepted": 3}, "platforms": {"a": {"accepted": 1}, "b": {"accepted": 2}}}
    (told,) = changed_ledger({"total": {"accepted": 2}, "platforms": {"a": {"accepted": 1}}}, ledger)
    assert told == {"total": {"accepted": 3}, "platforms": {"b": {"accepted": 2}}}


async def test_a_bug_in_a_topic_lets_go_of_all() -> None:
    """The relay goes on: the failure is told, and the next who joins is served anew."""
    failures: list[BaseException] = []
    ends: list[str] = []
    broken = False

    async def look() -> Any:
        if broken:
            raise ValueError("a bug")
        return {}

    class Watcher:
        def send(self, event: bytes) -> bool:
            return True

        def end(self) -> None:
            ends.append("end")

    made = Feed([Topic("platforms", look)], failed=failures.append)
    await made.join(Watcher())
    broken = True
    async with asyncio.timeout(20):
        while not ends:
            await asyncio.sleep(0.01)
    broken = False
    await made.join(Watcher())
    assert ([str(each) for each in failures], made.watchers) == (["a bug"], 1)
