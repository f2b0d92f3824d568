"""What an ordinary start leaves alone: one file, one platform, no option that needs a library of its own."""

import json
import subprocess
import sys
from pathlib import Path

from relay.standin.ports import free_port

_START_AND_STOP = """
import os, signal, sys
from relay.cli.main import run
from relay.daemon.systemd import Notifier

Notifier.ready = lambda self, text: os.kill(os.getpid(), signal.SIGTERM)  # as soon as it is ready
code = run(["run", "-c", sys.argv[1], "--log-format", "json"])
print(*sys.modules)
sys.exit(code)
"""
# Each costs 5 to 100 ms and up to 20 MB, and is imported where something configured or called needs it.
_HEAVY = frozenset(
    (
        *("rich", "structlog", "pygments"),  # a terminal
        *("redis", "cryptography", "_cffi_backend"),  # a shared store, what is sealed
        *("opentelemetry", "apprise", "re2"),
        *("duckdb", "sqlalchemy", "psycopg", "pymysql"),  # comparisons
        *("relay.store.redis", "relay.hosts", "relay.daemon.shared_store"),
        *("relay.sealing.vault", "relay.telemetry.spans", "relay.daemon.acceptors"),
        *("relay.reconcile.conduct", "relay.reconcile.report", "relay.reconcile.sources"),
        *("relay.simulate", "relay.standin", "relay.demo"),
        *("sqlite3", "unittest", "multiprocessing", "xml", "pydoc"),
    )
)


def test_an_ordinary_start_imports_nothing_it_does_not_use(tmp_path: Path) -> None:
    """A daemon with one file and one platform becomes ready and ends, and none of these was imported."""
    listen = {name: {"listen": f"127.0.0.1:{free_port()}"} for name in ("ingest", "admin")}
    platform = {"url": "http://127.0.0.1:9/", "rate": "100/min", "key": "order_id"}
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"version": 1, **listen, "platforms": {"a": platform}}))  # JSON is YAML too
    command = [sys.executable, "-c", _START_AND_STOP, str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    loaded = ended.stdout.split()
    assert "relay.store.sqlite.backend" in loaded
    assert [name for name in loaded if _HEAVY.intersection((name, *_parents(name)))] == []


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
