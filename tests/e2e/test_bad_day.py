"""The daemon on a bad day: a store that is full, a disk that takes nothing, files it cannot use, a log nobody reads."""

import json
import os
import resource
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import apsw
import pytest
import relay.store.sqlite.file.checksums  # its layer lies under the connections that are made here
from relay.core.clock import elapsed_s
from relay.standin.ports import free_port
from tests import warm_start

pytestmark = pytest.mark.timeout(120)
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Relay:
    """A daemon with a platform that is never there, and the commands an operator has."""

    def __init__(self, directory: Path, *, max_size: str = "64MiB") -> None:
        self.directory = directory
        self.ingest, self.admin = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.file = directory / "config.yaml"
        self.store = directory / "relay.db"
        self.log = directory / "relay.log"
        self.file.write_text(
            f"version: 1\ningest: {{listen: '{self.ingest[7:]}'}}\nadmin: {{listen: '{self.admin[7:]}'}}\n"
            f"store: {{url: 'sqlite:{self.store}', max_size: {max_size}}}\n"
            "platforms:\n  shop: {url: 'http://127.0.0.1:9/', envelope: single}\n"
        )
        self.process: Popen[bytes] | warm_start.Warm | None = None

    def start(self, stderr: int | None = None, before: Callable[[], None] | None = None) -> None:
        """Start it and wait until it lives or has ended."""
        with self.log.open("ab") as log:
            if stderr is None and before is None:
                self.process = warm_start.start("run", "-c", str(self.file), output=log, env=os.environ)
            else:
                self.process = Popen(
                    [sys.executable, "-m", "relay", "run", "-c", str(self.file)],
                    stderr=log if stderr is None else stderr,
                    preexec_fn=before,
                )
        self.until(lambda: self.call("/livez", self.ingest)[0] == 200 or self.ended)

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process is not None and self.process.poll() is not None

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something."""
        for _ in range(3000):
            if holds():
                return
            time.sleep(0.01)
        raise AssertionError(self.logged())

    def call(self, path: str, base: str | None = None, data: bytes | None = None, key: str = "") -> tuple[int, Any]:
        """Ask a listener; status 0 where nobody answers."""
        headers = {"Idempotency-Key": key} if key else {}
        request = urllib.request.Request((base or self.admin) + path, data=data, headers=headers)
        try:
            with OPENER.open(request, timeout=20) as answer:
                body = answer.read()
                return answer.status, json.loads(body) if body.startswith(b"{") else body.decode()
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def post(self, size: int = 100, key: str = "") -> str:
        """Post one callback of ``size`` bytes; return its state, or the code of the problem."""
        _, told = self.call("/v1/platforms/shop/callbacks", self.ingest, json.dumps("x" * size).encode(), key)
        return str(told.get("state") or told["code"])

    def accept(self, size: int = 100) -> None:
        """Post a callback until it is accepted: a commit that takes a second on a busy machine is a 503."""
        key = uuid4().hex
        self.until(lambda: self.post(size, key) == "pending")

    def command(self, *words: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it said."""
        ran = warm_start.run_here(*words, "-c", str(self.file))
        return ran.code, ran.out + ran.err

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines of the log; all of them are in its format."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Stop it; return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def bound_files(self, most_bytes: int) -> None:
        """Let no file of the running daemon grow over so many bytes: a full disk without one."""
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A daemon, not started."""
    made = Relay(tmp_path)
    yield made
    if made.process is not None and not made.ended:
        made.end(signal.SIGKILL)


def test_full_store_is_seen_everywhere(tmp_path: Path) -> None:
    """A store that answers ``store_full`` is told of everywhere, from the figure that decides."""
    relay = Relay(tmp_path, max_size="1MiB")
    relay.start()
    try:
        assert relay.call("/readyz")[1] == {"status": "ok"}
        while relay.post(60_000) != "store_full":
            pass
        assert relay.post(60_000) == "store_full"
        store = relay.call("/v1/ledger")[1]["store"]
        assert store["full"] is True
        assert store["used_bytes"] <= store["usable_bytes"] < store["max_bytes"] == 1024 * 1024
        relay.until(lambda: relay.call("/readyz")[1]["status"] == "degraded")
        status, told = relay.call("/readyz", relay.ingest)
        assert (status, told["reasons"][0][:11]) == (200, "store_full:")

        def metrics() -> dict[str, str]:
            lines = relay.call("/metrics")[1].splitlines()
            return dict(line.split() for line in lines if line.startswith("relay_store_") and "{" not in line)

        def told_alike() -> bool:  # attempts take room between two looks
            store.update(relay.call("/v1/ledger")[1]["store"])
            return float(metrics()["relay_store_used_bytes"]) == store["used_bytes"]

        relay.until(told_alike)
        assert float(metrics()["relay_store_max_bytes"]) == 1024 * 1024
        assert float(metrics()["relay_store_full"]) == 1
        assert "full: posts get 503 store_full" in relay.command("status")[1]
        assert "store_full" in relay.command("doctor", "-o", "json")[1]
    finally:
        relay.end()
    told_down = json.loads(relay.command("status", "-o", "json")[1].partition("daemon not")[0])["ledger"]["store"]
    assert told_down["usable_bytes"] == store["usable_bytes"]
    # the queue's own bookkeeping went on until the end
    assert 0 <= told_down["used_bytes"] - store["used_bytes"] < 16 * 4096
    assert "that posts may use" in relay.command("doctor", "-o", "json")[1]


def test_disk_takes_nothing(relay: Relay) -> None:
    """Posts get 503, what only reads goes on, and it recovers by itself when the disk does."""
    relay.start()
    relay.accept()
    relay.bound_files(relay.store.with_name("relay.db-wal").stat().st_size)
    began_s = elapsed_s()
    assert relay.post(60_000) == "store_failed"
    assert elapsed_s() - began_s < 10  # long before a client gives up
    status, told = relay.call("/readyz")
    assert (status, told["code"]) == (503, "store_failed")
    code, text = relay.command("status")
    assert (code, "shop" in text, "1 in =" in text) == (0, True, True)
    assert relay.call("/v1/callbacks")[0] == relay.call("/v1/operations")[0] == relay.call("/metrics")[0] == 200
    relay.bound_files(resource.RLIM_INFINITY)
    relay.until(lambda: relay.call("/readyz")[0] == 200)
    relay.accept(60_000)
    relay.end()
    told = [line["event"] for line in relay.logged() if line["event"].startswith("store_")]
    # A slow machine tries more than once before there is room; each try that fails is told.
    assert [event for event, _ in groupby(told)] == ["store_begun", "store_failed", "store_recovered"]


def test_start_that_fails_is_one_line(relay: Relay) -> None:
    """Whatever is wrong with the file, the last line is the log's and says what to do; no traceback."""
    relay.start()
    relay.accept(60_000)
    relay.end()
    good = relay.store.read_bytes()

    def spoil(kind: str) -> None:
        if kind == "newer":
            connection = apsw.Connection(str(relay.store))
            connection.pragma("user_version", 99)
            connection.close()
        elif kind == "not a database":
            relay.store.write_bytes(b"text" * 5000)
        elif kind == "damaged":
            connection = apsw.Connection(str(relay.store))
            connection.pragma("wal_checkpoint", "truncate")
            connection.close()
            whole = relay.store.read_bytes()
            relay.store.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
        elif kind == "directory":
            relay.store.unlink()
            relay.store.mkdir()

    for kind, told in {
        "newer": "schema version 99",
        "not a database": "is not a database",
        "damaged": "is damaged",
        "directory": "Is a directory",
    }.items():
        for beside in ("-wal", "-shm"):
            relay.store.with_name("relay.db" + beside).unlink(missing_ok=True)
        relay.store.write_bytes(good)
        spoil(kind)
        relay.log.unlink()
        relay.start()
        assert relay.process is not None
        assert relay.process.wait(60) == 1, kind
        last = relay.logged()[-1]
        assert (last["level"], told in last["detail"]) == ("error", True), (kind, last["detail"])


def test_backup_restored_over_an_old_wal(relay: Relay) -> None:
    """The doctor tells a database that does not belong to the WAL beside it from what a kill leaves."""
    relay.start()
    relay.accept(5000)
    copy = relay.store.with_name("copy.db")
    source, target = apsw.Connection(str(relay.store)), apsw.Connection(str(copy))
    with target.backup("main", source, "main") as backup:
        backup.step()
    source.close()
    target.close()
    relay.accept(5000)
    relay.end(signal.SIGKILL)
    assert "put there after its -wal" not in relay.command("doctor", "-o", "json")[1]
    relay.store.write_bytes(copy.read_bytes())
    told = relay.command("doctor", "-o", "json")[1]
    assert f"remove {relay.store}-wal and {relay.store}-shm" in told
    for beside in ("-wal", "-shm"):
        relay.store.with_name("relay.db" + beside).unlink()
    code, told = relay.command("doctor", "-o", "json")
    assert (code, "put there after its -wal" in told, "1 pending" in told) == (0, False, True)


@pytest.mark.parametrize("limit", [resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE])
def test_start_without_room_or_descriptors(relay: Relay, limit: int) -> None:
    """A start for which the disk or the descriptors do not reach ends in a line of the log, too."""
    relay.start()
    relay.accept(60_000)
    relay.end(signal.SIGKILL)
    relay.log.unlink()
    relay.start(before=lambda: resource.setrlimit(limit, {resource.RLIMIT_FSIZE: (8192, 8192)}.get(limit, (11, 11))))
    assert relay.process is not None
    assert relay.process.wait(60) == 1
    text = relay.log.read_text()
    assert "Traceback" not in text
    assert relay.logged()[-1]["level"] == "error", text


def test_log_that_nobody_reads(relay: Relay) -> None:
    """The daemon serves and stops although its log's pipe is full; what waited comes when somebody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    relay.start(stderr=writer)
    os.close(writer)
    relay.accept()
    assert relay.call("/livez")[0] == 200
    assert relay.end() == 0
    os.close(reader)
