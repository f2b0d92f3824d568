"""Starts and ends the processes of a benchmark, each by its pid, and asks them over HTTP how they do."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.standin.ports import free_port

_ROOT = Path(__file__).resolve().parent.parent
_START_S = 60.0
_STOP_S = 30.0
# An installed relay is compiled. A checkout is by its first start, unless the environment forbids it: then every start
# would compile all of it, which is half of a start's CPU.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class BenchmarkFailed(Exception):
    """A part did not do what the figure needs; the message says which."""


def call(url: str, method: str = "GET", body: Any = None, timeout_s: float = 10.0) -> tuple[int, Any]:
    """Send one request; return the status and the decoded JSON. Raises ``OSError`` when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, parts.path, sent, {"Content-Type": "application/json"} if sent else {})
        answer = connection.getresponse()
        told = answer.read()
        return answer.status, json.loads(told) if told else None
    finally:
        connection.close()


class Process:
    """One process of ours, ended when its block is left."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cpu: int | None = None,
        stderr: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``environment`` is added to ours."""
        self.started_at = time.monotonic()
        self._log = stderr.open("ab") if stderr else None
        self.popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=_ROOT,
            env={**_ENVIRONMENT, "PYTHONPATH": str(_ROOT), **(environment or {})},
            text=True,
        )
        if cpu is not None:
            os.sched_setaffinity(self.popen.pid, {cpu})

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def line(self) -> dict[str, Any]:
        """Return the JSON object it prints first."""
        assert self.popen.stdout is not None
        text = self.popen.stdout.readline()
        if not text:
            raise BenchmarkFailed(f"{self.popen.args!r} ended with {self.popen.wait()} before it was ready")
        told: dict[str, Any] = json.loads(text)
        return told

    def result(self, timeout_s: float) -> dict[str, Any]:
        """Wait for its end and return the JSON object it printed."""
        text, _ = self.popen.communicate(timeout=timeout_s)
        if self.popen.returncode:
            raise BenchmarkFailed(f"{self.popen.args!r} ended with {self.popen.returncode}")
        told: dict[str, Any] = json.loads(text)
        return told

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; with SIGKILL when it does not follow."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            try:
                self.popen.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        if self._log is not None:
            self._log.close()

    def resident_bytes(self) -> int:
        """Return VmRSS."""
        for row in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if row.startswith("VmRSS:"):
                return int(row.split()[1]) * 1024
        raise BenchmarkFailed(f"process {self.pid} has ended")

    def cpu_s(self) -> float:
        """Return the CPU seconds it used, all threads."""
        return cpu_s(self.pid)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def module(name: str, *arguments: str, cpu: int | None = None) -> Process:
    """Start ``python -m benchmarks.NAME``."""
    return Process([sys.executable, "-m", f"benchmarks.{name}", *arguments], cpu=cpu)


class Daemon:
    """``relay run`` on a store of its own in ``directory``; may be stopped and started again on the same store."""

    def __init__(
        self,
        directory: Path,
        platforms: dict[str, Any],
        *,
        cpu: int | None = None,
        processes: int = 0,
        **sections: Any,
    ) -> None:
        """``processes`` take posts in beside it; ``sections`` are further ones of the configuration."""
        directory.mkdir(parents=True, exist_ok=True)
        ingest, admin = free_port(), free_port()
        self.ingest, self.admin = f"http://127.0.0.1:{ingest}", f"http://127.0.0.1:{admin}"
        self._directory = directory
        self._cpu = cpu
        # JSON is YAML too
        (directory / "config.yaml").write_text(
            json.dumps(
                {
                    "version": 1,
                    "ingest": {"listen": f"127.0.0.1:{ingest}", "processes": processes},
                    "admin": {"listen": f"127.0.0.1:{admin}"},
                    "store": {"url": "sqlite:relay.db", "max_size": "16GiB"},
                    "platforms": platforms,
                    **sections,
                }
            )
        )
        self.ready_s = 0.0
        self.start()

    def start(self) -> None:
        """Start it and wait until it is ready; ``ready_s`` is the time from the fork to readyz 200."""
        command = [sys.executable, "-m", "relay", "run", "-c", str(self._directory / "config.yaml")]
        self.process = Process(command, cpu=self._cpu, stderr=self._directory / "log")
        while True:
            try:
                status, _ = call(f"{self.ingest}/readyz")
            except OSError:
                status = 0
            self.ready_s = time.monotonic() - self.process.started_at
            if status == 200:
                return
            if self.process.popen.poll() is not None or self.ready_s > _START_S:
                log = (self._directory / "log").read_text(errors="replace")[-2000:]
                self.process.stop()
                raise BenchmarkFailed(f"the relay did not become ready:\n{log}")
            time.sleep(0.002)

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def callbacks_url(self, platform: str) -> str:
        """Where callbacks for ``platform`` are posted."""
        return f"{self.ingest}/v1/platforms/{platform}/callbacks"

    def order(self, platform: str, action: str) -> None:
        """Pause, resume or flush a platform."""
        status, told = call(f"{self.admin}/v1/platforms/{platform}/{action}", "POST", {"reason": "benchmark"})
        if status not in (200, 202, 204):
            raise BenchmarkFailed(f"{action} {platform}: {status} {told}")

    def totals(self) -> dict[str, int]:
        """Return the ledger's totals; they must add up."""
        _, told = call(f"{self.admin}/v1/ledger", timeout_s=60.0)
        total: dict[str, int] = told["total"]
        if total["unaccounted"]:
            raise BenchmarkFailed(f"the ledger does not add up: {total}")
        return total
