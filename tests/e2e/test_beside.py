"""A daemon with a process that takes posts in beside it (`ingest.processes`): its address, and what a kill leaves."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from relay.standin.ports import free_port
from tests.e2e.harness import Process, until


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as made:
        yield made


def acceptors(daemon: Process) -> list[int]:
    """Return the processes that took posts, from the daemon's log."""
    lines = [json.loads(line) for line in daemon.output.read_text().splitlines() if '"acceptor_started"' in line]
    return [line["pid"] for line in lines]


def runs(pid: int) -> bool:
    """Return whether a process is there and no corpse."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_a_killed_daemon_leaves_no_acceptor_and_loses_nothing(tmp_path: Path, http: aiohttp.ClientSession):
    """A second daemon on its address is refused. After kill -9 the address is free, and what was answered is there."""
    ingest, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = {
        "version": 1,
        "ingest": {"listen": ingest, "processes": 1},
        "admin": {"listen": admin},
        "store": {"url": f"sqlite:{tmp_path / 'relay.db'}"},
        "platforms": {"shop": {"url": "http://127.0.0.1:9/"}},
    }
    file, other = tmp_path / "config.yaml", tmp_path / "other.yaml"
    file.write_text(yaml.safe_dump(config))
    other.write_text(yaml.safe_dump(config | {"store": {"url": f"sqlite:{tmp_path / 'other.db'}"}}))
    daemon, second = Process(tmp_path / "log", "run", "-c", str(file)), Process(tmp_path / "2", "run", "-c", str(other))

    async def takes_posts(count: int) -> bool:
        assert daemon.running, daemon.tail()
        return len(acceptors(daemon)) == count

    async def accepted() -> int:
        async with http.get(f"http://{admin}/v1/ledger") as response:
            total = (await response.json())["total"]
            assert total["unaccounted"] == 0
            return int(total["accepted"])

    async def post() -> int:
        async with http.post(f"http://{ingest}/v1/platforms/shop/callbacks", data=b"{}") as response:
            return response.status

    await daemon.start()
    try:
        await until(lambda: takes_posts(1), timeout_s=30, what="an acceptor takes posts")
        assert [await post() for _ in range(5)] == [202] * 5
        await second.start()
        assert await second.ended() == 1
        assert "the port is in use" in second.tail()
        await daemon.signal(signal.SIGKILL)
        await daemon.start()
        await until(lambda: takes_posts(2), timeout_s=30, what="the next acceptor takes posts")
        assert [await post() for _ in range(5)] == [202] * 5
        assert await accepted() == 10
        assert await daemon.signal(signal.SIGTERM) == 0
        assert not any(runs(pid) for pid in acceptors(daemon))
    finally:
        await daemon.signal(signal.SIGKILL) if daemon.running else None
