"""The daemon as systemd and an operator meet it: notifications, signals, reloads, and starts that cannot work."""

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import apsw
import pytest
from relay.standin.ports import free_port
from relay.store.sqlite.backend import SqliteStore
from tests import warm_start

pytestmark = pytest.mark.timeout(120)

CONFIG = """version: 1
ingest: {{listen: "unix:{dir}/in.sock"}}
admin: {{listen: "127.0.0.1:{port}"}}
platforms:
  shop-a:
    url: http://127.0.0.1:9/
    rate: {rate}
"""


class Daemon:
    """``relay run`` as a service manager starts it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.file = directory / "config.yaml"
        self.write("100/min")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.notify.settimeout(60)
        self.told: list[str] = []
        self.log = directory / "log"
        self.process: Popen[bytes] | warm_start.Warm | None = None

    def write(self, rate: str) -> None:
        """Write the configuration with this rate."""
        self.file.write_text(CONFIG.format(dir=self.directory, port=self.port, rate=rate))

    def start(self, *, cold: bool = False) -> Popen[bytes] | warm_start.Warm:
        """Start the daemon with systemd's environment; its log is kept in a file."""
        env = {**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify"), "WATCHDOG_USEC": "400000"}
        arguments = ("run", "-c", str(self.file))
        with self.log.open("wb") as log:
            if cold:
                self.process = Popen([sys.executable, "-m", "relay", *arguments], env=env, stderr=log)
            else:
                self.process = warm_start.start(*arguments, env=env, output=log)
        return self.process

    def wait_for(self, word: str) -> str:
        """Wait for a notification that holds ``word``; return its text."""
        while True:
            self.told.append(self.notify.recv(4096).decode())
            if word in self.told[-1]:
                return self.told[-1]

    def get(self, path: str, *, post: bool = False, **body: Any) -> Any:
        """Ask the admin listener."""
        data = json.dumps(body).encode() if post else None
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, method="POST" if post else "GET"
        )
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def end(self) -> bytes:
        """SIGTERM, and what it said."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return self.log.read_bytes()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon, not started."""
    made = Daemon(tmp_path)
    yield made
    made.notify.close()
    if made.process is not None and made.process.poll() is None:
        made.process.send_signal(signal.SIGKILL)
        made.process.wait(60)


def test_systemd_is_told_the_truth(daemon: Daemon) -> None:
    """READY with a status when it accepts, WATCHDOG while it works, STOPPING at SIGTERM; exit 0 and a telling log."""
    daemon.start(cold=True)
    assert "1 platform, listening on" in daemon.wait_for("READY=1")
    assert daemon.get("/v1/ledger")["total"]["unaccounted"] == 0
    daemon.wait_for("WATCHDOG=1")
    daemon.wait_for("WATCHDOG=1")

    log = daemon.end()

    daemon.wait_for("STOPPING=1")
    assert daemon.process is not None
    assert daemon.process.returncode == 0
    events = [json.loads(line)["event"] for line in log.splitlines()]
    events = [event for event in events if event != "watchdog_late"]  # a busy machine keeps the loop waiting
    assert events == ["config_loaded", "started", "store_begun", "ready", "stopping", "stopped"]
    assert not (daemon.directory / "in.sock").exists()


def test_reload_takes_a_good_file_and_leaves_a_bad_one(daemon: Daemon) -> None:
    """SIGHUP puts a new rate in force at once; a file with mistakes changes nothing and is reported."""
    process = daemon.start()
    daemon.wait_for("READY=1")

    daemon.write("7/10s")
    process.send_signal(signal.SIGHUP)
    daemon.wait_for("RELOADING=1")
    daemon.wait_for("READY=1")
    quotas = daemon.get("/v1/platforms/shop-a")["quotas"]
    assert [(quota["limit"], quota["window_s"]) for quota in quotas] == [(7, 10.0)]

    daemon.write("7/never")
    refused = daemon.get("/v1/config/reload", post=True)
    assert "E020" in json.dumps(refused)
    quotas = daemon.get("/v1/platforms/shop-a")["quotas"]
    assert [(quota["limit"], quota["window_s"]) for quota in quotas] == [(7, 10.0)]

    told = [json.loads(line) for line in daemon.end().splitlines()]
    (line,) = [line for line in told if line["event"] == "config_refused"]
    assert line["level"] == "error"
    assert "E020" in str(line["problems"])


def test_a_listener_that_needs_a_restart_does_not_hold_up_later_reloads(daemon: Daemon) -> None:
    """Addresses stay until a restart, and that is said; everything else is put in force, then and later."""
    daemon.start()
    daemon.wait_for("READY=1")
    text = daemon.file.read_text()
    more = text.replace(
        f'"unix:{daemon.directory}/in.sock"', f'["unix:{daemon.directory}/in.sock", "127.0.0.1:{free_port()}"]'
    )
    assert more != text

    daemon.file.write_text(more)
    first = daemon.get("/v1/config/reload", post=True)
    daemon.file.write_text(more.replace("100/min", "7/10s"))
    second = daemon.get("/v1/config/reload", post=True)

    assert first["applied"]
    assert {change["path"] for change in first["changes"] if change["needs_restart"]} == {"ingest.listen"}
    assert second["applied"]
    assert [change["path"] for change in second["changes"]] == ["platforms.shop-a.rate"]
    assert daemon.get("/v1/config")["config"]["platforms"]["shop-a"]["rate"] == "7/10s"
    daemon.end()


def test_what_waits_for_a_removed_platform_is_shown_paused(daemon: Daemon) -> None:
    """Removing a platform for which callbacks wait takes force; then it is paused, and what waits says what to do."""
    daemon.start()
    daemon.wait_for("READY=1")
    sent = warm_start.run_here("send", "shop-a", "-", "-c", str(daemon.file), "-o", "json", stdin=b'{"order_id": 1}')
    waiting = sent.json()["id"]
    daemon.file.write_text(daemon.file.read_text().replace("shop-a:", "shop-b:"))

    refused = daemon.get("/v1/config/reload", post=True)
    forced = daemon.get("/v1/config/reload", post=True, force=True)
    shown = daemon.get("/v1/platforms/shop-a")
    told = daemon.get(f"/v1/callbacks/{waiting}")["waiting"]
    explained = warm_start.run_here("explain", waiting, "--admin", f"http://127.0.0.1:{daemon.port}").out

    assert "1 callback pending" in json.dumps(refused)
    assert (forced["applied"], forced["added"], forced["removed"]) == (True, ["shop-b"], {"shop-a": 1})
    assert (shown["state"], shown["reason"], shown["removed"]) == (
        "paused",
        "it is no longer in the configuration",
        True,
    )
    assert told == {"for": "paused", "until": None, "reason": "it is no longer in the configuration", "removed": True}
    assert "shop-a is no longer in the configuration" in " ".join(explained.split())
    assert "put platforms.shop-a back" in explained
    resumed = daemon.get("/v1/platforms/shop-a/resume", post=True)
    assert resumed["detail"] == "platform 'shop-a' is no longer in the configuration; put it back and reload"
    daemon.end()


def test_warnings_are_logged(daemon: Daemon) -> None:
    """What is worth knowing of the file is a line each, at the start and when a reload takes the file."""
    plain = daemon.file.read_text()
    daemon.file.write_text(plain + "quotas: {spare: {rate: 1/s}}\n")
    daemon.start()
    daemon.wait_for("READY=1")
    daemon.file.write_text(plain + "quotas: {spare: {rate: 1/s}, other: {rate: 1/s}}\n")
    assert daemon.get("/v1/config/reload", post=True)["applied"]

    log = [json.loads(line) for line in daemon.end().splitlines()]

    events = [(line["event"], line["level"]) for line in log if line["event"].startswith("config_")]
    loaded, warned = ("config_loaded", "info"), ("config_warning", "warning")
    assert events == [loaded, warned, loaded, warned, warned]
    told = [line["problem"].removeprefix(f"{daemon.file}:") for line in log if line["event"] == "config_warning"]
    assert told == [f"8:{col}: W003 no platform uses the quota {name!r}" for name, col in
                    (("spare", 10), ("spare", 10), ("other", 30))]  # fmt: skip


def test_a_dry_run_is_no_reload_that_failed(daemon: Daemon) -> None:
    """A bad file is told to who asked; neither the metric nor the log says that it was refused."""
    daemon.start()
    daemon.wait_for("READY=1")
    daemon.write("7/never")

    told = daemon.get("/v1/config/reload", post=True, dry_run=True)

    assert "E020" in json.dumps(told)
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/metrics", timeout=40) as answer:
        assert b"relay_config_last_reload_successful 1.0" in answer.read()
    assert b"config_refused" not in daemon.end()


def test_second_daemon_names_the_first(daemon: Daemon, tmp_path: Path) -> None:
    """One daemon per store file: the second exits 1 and says which process has it; the first goes on."""
    process = daemon.start()
    daemon.wait_for("READY=1")

    second = warm_start.run_here("run", "-c", str(daemon.file))

    assert second.code == 1
    assert str(process.pid) in second.err
    assert "Traceback" not in second.err
    assert daemon.get("/readyz") is not None
    daemon.end()


def _not_a_database(directory: Path) -> None:
    (directory / "relay.db").write_bytes(b"hello, this is no database at all\n" * 100)


def _a_directory(directory: Path) -> None:
    (directory / "relay.db").mkdir()


def _under_a_file(directory: Path) -> None:
    file = directory / "config.yaml"
    (directory / "plain").write_text("a file")
    file.write_text(file.read_text() + "store: {url: sqlite:plain/relay.db}\n")


def _from_the_future(directory: Path) -> None:
    async def make() -> None:
        await (await SqliteStore.open(directory / "relay.db")).close()

    asyncio.run(make())
    with apsw.Connection(str(directory / "relay.db")) as connection:
        connection.pragma("user_version", 999)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_not_a_database, "is not a database"),
        (_a_directory, "relay.db"),
        (_under_a_file, "plain"),
        (_from_the_future, "999"),
    ],
)
def test_store_that_cannot_be_used_is_named(daemon: Daemon, spoil: Any, said: str) -> None:
    """Exit 1 with one line naming the file and what to do; no traceback, and the file is as it was."""
    spoil(daemon.directory)

    code = daemon.start().wait(60)

    log = daemon.log.read_bytes()
    last = json.loads(log.decode().splitlines()[-1])["detail"]
    assert code == 1
    assert said in last
    assert b"Traceback" not in log
    if spoil is _not_a_database:
        assert (daemon.directory / "relay.db").read_bytes().startswith(b"hello")


def test_port_in_use_is_named(daemon: Daemon) -> None:
    """Exit 1 with the address and how to find who has it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", daemon.port))
        other.listen()
        code = daemon.start().wait(60)

    assert code == 1
    assert f"127.0.0.1:{daemon.port}" in daemon.log.read_text().splitlines()[-1]


def test_five_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """A config with five mistakes: five lines with position and code, exit 78, nothing opened or written."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 1\nplatforms:\n  shop-a:\n    url: ftp://x\n    rate: 100/mn\n    timeout: 10\n"
        "    rate_limt: 5\n    quotas: [nobody]\n"
    )

    ended = warm_start.run_here("run", "-c", str(file))

    problems = [line for line in ended.err.splitlines() if line.startswith(str(file))]
    assert ended.code == 78
    assert len(problems) == 5
    assert [int(line.split(":")[1]) for line in problems] == [4, 5, 6, 7, 8]
    assert list(tmp_path.iterdir()) == [file]


async def test_posts_cut_off_midway_leave_nothing(daemon: Daemon) -> None:
    """A client that goes away halfway through its body: nothing was accepted, and the next post is."""
    daemon.start()
    await asyncio.to_thread(daemon.wait_for, "READY=1")
    path = str(daemon.directory / "in.sock")
    head = b"POST /v1/platforms/shop-a/callbacks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(head + b'{"order_id": ')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(head.replace(b"1000", b"2") + b"{}")
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert answer.startswith(b"HTTP/1.1 202")
    assert (await asyncio.to_thread(daemon.get, "/v1/ledger"))["total"]["accepted"] == 1
    await asyncio.to_thread(daemon.end)
