"""A daemon with a process that takes posts in beside it (`ingest.processes`): its address, and what a kill leaves."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import aiohttp
import pytest
import yaml
from relay.standin.ports import free_port
from tests.e2e.harness import Process, until


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as made:
        yield made


def acceptors(log: Path) -> list[int]:
    """Return the processes that took posts, from the daemon's log."""
    whole = log.read_text().rpartition("\n")[0]  # a line that is being written is read the next time
    lines = [json.loads(line) for line in whole.splitlines() if '"acceptor_started"' in line]
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
        return len(acceptors(daemon.output)) == count

    async def accepted() -> int:
        async with http.get(f"http://{admin}/v1/ledger") as response:
            total = (await response.json())["total"]
            assert total["unaccounted"] == 0
            return int(total["accepted"])

    posted = count()

    async def post(number: int | None = None) -> int:
        headers = {"Idempotency-Key": f"post-{next(posted) if number is None else number}"}
        async with http.post(f"http://{ingest}/v1/platforms/shop/callbacks", data=b"{}", headers=headers) as response:
            return response.status

    async def taken(number: int) -> bool:  # a commit that takes a second on a busy machine is a 503: it is repeated
        return await post(number) == 202

    async def posts_again() -> bool:
        return await post() == 202

    async def gone() -> bool:
        return not any(map(runs, acceptors(daemon.output)))

    await daemon.start()
    try:
        await until(lambda: takes_posts(1), timeout_s=60, what="an acceptor takes posts")
        for number in islice(posted, 5):
            await until(partial(taken, number), timeout_s=40, what="a post is taken")
        await second.start()
        assert await second.ended() == 1
        assert "the port is in use" in second.tail()
        await daemon.signal(signal.SIGKILL)
        await daemon.start()
        await until(lambda: takes_posts(2), timeout_s=60, what="the next acceptor takes posts")
        for number in islice(posted, 5):
            await until(partial(taken, number), timeout_s=40, what="a post is taken")
        assert await accepted() == 10
        os.kill(daemon.pid, signal.SIGSTOP)  # nobody answers its acceptor any more
        assert set(await asyncio.gather(*(post() for _ in range(8)))) == {503}
        assert await post() == 503
        os.kill(daemon.pid, signal.SIGCONT)
        await until(posts_again, timeout_s=40, what="posts are taken")
        assert 10 < await accepted() <= next(posted)  # of those that were refused it is not known (I2)
        assert await daemon.signal(signal.SIGTERM) == 0
        await until(gone, timeout_s=40, what="its acceptors have ended")
    finally:
        await daemon.signal(signal.SIGKILL) if daemon.running else None


# sd_listen_fds(3): the sockets begin at 3, and the number of the process says whom they are for.
_ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="ingest", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "relay", "run", "-c", sys.argv[2]])
"""


async def test_a_socket_that_systemd_opened_is_passed_on(tmp_path: Path, http: aiohttp.ClientSession):
    """Its acceptor takes posts from it. What connects while the daemon is killed waits for the next one."""
    admin = f"127.0.0.1:{free_port()}"
    opened = socket.create_server(("127.0.0.1", 0))
    ingest = f"127.0.0.1:{opened.getsockname()[1]}"
    config = {
        "version": 1,
        "ingest": {"listen": ingest, "processes": 1},
        "admin": {"listen": admin},
        "store": {"url": f"sqlite:{tmp_path / 'relay.db'}"},
        "platforms": {"shop": {"url": "http://127.0.0.1:9/"}},
    }
    file, log = tmp_path / "config.yaml", tmp_path / "log"
    file.write_text(yaml.safe_dump(config))

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _ACTIVATED, str(opened.fileno()), str(file)]
        with log.open("ab") as output:
            return subprocess.Popen(command, stderr=output, pass_fds=[opened.fileno()])

    async def started(count: int) -> bool:
        return len(acceptors(log)) == count

    async def gone() -> bool:
        return not any(map(runs, acceptors(log)))

    async def post() -> str:
        url, alone = f"http://{ingest}/v1/platforms/shop/callbacks", {"Connection": "close"}
        async with http.post(url, data=b"{}", headers=alone) as response:
            assert response.status == 202
            return str((await response.json())["id"])

    daemon = start()
    try:
        await until(lambda: started(1), timeout_s=60, what="an acceptor takes posts")
        await post()
        daemon.kill()
        daemon.wait()
        await until(gone, timeout_s=40, what="its acceptor has ended")
        waiting = asyncio.ensure_future(post())
        daemon = start()
        await waiting
        await until(lambda: started(2), timeout_s=60, what="the next acceptor takes posts")
        await post()
        async with http.get(f"http://{admin}/v1/ledger") as response:
            assert (await response.json())["total"]["accepted"] == 3
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0
    finally:
        daemon.kill()
        daemon.wait()
        opened.close()
