"""A real daemon over a real store, a platform that refuses what it is told to, and Debian's chromium before it."""

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright
from relay.core.clock import boottime_s, wall_s
from relay.core.model import Rate
from relay.standin.ports import free_port
from relay.standin.throttle import Limiters, Sliding
from tests import warm_start
from tests.installed import installed

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
USERS = [
    {"name": role, "role": role, "token": f"{role}-token-for-the-tests"}
    for role in ("stats", "viewer", "operator", "admin")
]
_PATIENCE_S = 60.0
expect.set_options(timeout=_PATIENCE_S * 1000)
_BETWEEN = threading.Event()


_ANSWERS = {
    "/refuse": (422, b'{"code": 7, "message": "unknown carrier <b>x</b>"}'),
    "/expired": (200, b'{"errcode": 40001}'),
    "/busy": (429, b"{}"),
}


class _Platform(BaseHTTPRequestHandler):
    """Answers by path: /ok takes everything, /refuse refuses it for good, /expired knows no token any more.

    /limited takes ten requests in any second, and tells nobody.
    """

    protocol_version = "HTTP/1.1"
    limits = Limiters([Sliding(Rate(10, 1.0))])
    one_at_a_time = threading.Lock()

    def handle(self) -> None:
        """Answer requests until the relay closes the connection, which it does by a reset (SO_LINGER 0)."""
        with suppress(ConnectionResetError):
            super().handle()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = self.path
        with self.one_at_a_time:
            if asked == "/limited" and self.limits.admit(boottime_s()) > 0.0:
                asked = "/busy"
        status, body = _ANSWERS.get(asked, (200, b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Relay:
    """A running daemon; ``stop`` and ``start`` let it be away for a while."""

    start: Callable[[], None]
    stop: Callable[[], None]

    def __init__(self, directory: Path, platforms: Mapping[str, Any], *, users: bool, store: Mapping[str, str]) -> None:
        self.admin, self.ingest = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.file = directory / "config.yaml"
        self.config: dict[str, Any] = {
            "version": 1,
            "ingest": {"listen": self.ingest.removeprefix("http://")},
            "admin": {"listen": self.admin.removeprefix("http://"), **({"users": USERS} if users else {})},
            "store": {"url": f"sqlite:{directory / 'relay.db'}", **store},
            "platforms": dict(platforms),
            "reconcile": {
                "shop-e": {
                    "order_center": {"file": "center.csv"},
                    "platform": {"file": "shown.csv"},
                    "columns": {"key": "no", "status": "status", "at": "at"},
                    "order": ["paid", "shipped"],
                }
            },
        }
        at = datetime.fromtimestamp(wall_s() - 7200.0, UTC).isoformat()
        (directory / "center.csv").write_text(f"no,status,at\nE-1,paid,{at}\nE-2,shipped,{at}\n")
        (directory / "shown.csv").write_text(f"no,status,at\nE-2,paid,{at}\n")
        self.write()

    def write(self) -> None:
        """Put ``config`` into the file."""
        self.file.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        self.file.chmod(0o600)

    def text(self, path: str, method: str = "GET", *, refused: bool = False) -> str:
        """Return what the admin API answers to its admin, who may expect to be refused."""
        headers = {"Authorization": f"Bearer {USERS[-1]['token']}"}
        request = urllib.request.Request(f"{self.admin}{path}", method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                told: str = answer.read().decode()
                return told
        except urllib.error.HTTPError:
            if not refused:
                raise
            return ""

    def ask(self, method: str, path: str) -> Any:
        """Return the JSON that the admin API answers to its admin."""
        return json.loads(self.text(path, method))

    def post(self, platform: str, payload: Any, **headers: str) -> str:
        """Post one callback; return its id."""
        request = urllib.request.Request(
            f"{self.ingest}/v1/platforms/{platform}/callbacks", data=json.dumps(payload).encode(), headers=headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: str = json.loads(answer.read())["id"]
            return found

    def post_many(self, platform: str, payloads: Sequence[Any]) -> None:
        """Post callbacks together."""
        request = urllib.request.Request(
            f"{self.ingest}/v1/platforms/{platform}/callbacks",
            data="\n".join(json.dumps(each) for each in payloads).encode(),
            headers={"Content-Type": "application/x-ndjson"},
        )
        urllib.request.urlopen(request, timeout=60).close()

    def until_total(self, state: str, count: int) -> None:
        """Wait until so many callbacks are in ``state``."""
        until(lambda: self.ask("GET", "/v1/ledger")["total"][state] >= count, f"{count} {state}")


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds; fail naming ``what`` was waited for."""
    deadline = boottime_s() + _PATIENCE_S
    while not holds():
        assert boottime_s() < deadline, f"not within {_PATIENCE_S} s: {what}"
        _BETWEEN.wait(0.05)


@contextmanager
def running(directory: Path, *, users: bool = True, **store: str) -> Iterator[Relay]:
    """Run a daemon with platforms that take, refuse and are down until the block ends; ``store``: more of its keys."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Platform)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"http://127.0.0.1:{server.server_port}"
    relay = Relay(
        directory,
        {
            "shop-a": {"url": f"{target}/ok", "rate": "100/min", "objective": {"within": "1h", "share": "99%"}},
            "shop-b": {"url": f"{target}/refuse"},
            "shop-c": {"url": f"http://127.0.0.1:{free_port()}/down", "key": "order_id"},
            "shop-d": {"url": f"{target}/refuse", "classify": [{"path": "code", "in": [7], "as": "reject"}]},
            "shop-e": {"url": f"{target}/ok"},
            "shop-h": {"url": f"{target}/ok", "classify": [{"path": "errcode", "in": [0], "as": "ok"}]},
            "shop-l": {"url": f"{target}/limited", "batch": {"max_items": 1}, "retry": {"backoff": "200ms..1s"}},
            "shop-t": {
                "url": f"{target}/expired",
                "classify": [{"path": "errcode", "in": [40001], "as": "auth"}],
                "breaker": {"open_after": 1},
            },
            "shop-f": {"url": f"{target}/refuse", "batch": {"max_items": 1}, "key": "order_id", "breaker": "off"},
        },
        users=users,
        store=store,
    )
    env = {name: value for name, value in os.environ.items() if name not in ("STATE_DIRECTORY", "NOTIFY_SOCKET")}
    daemons: list[warm_start.Warm] = []

    def start() -> None:
        with (directory / "daemon.log").open("ab") as log:
            daemons.append(warm_start.start("run", "-c", str(relay.file), output=log, env=env))
        until(ready, "the daemon is ready")

    def stop() -> None:
        daemons[-1].send_signal(signal.SIGTERM)
        daemons[-1].wait(60)

    def ready() -> bool:
        assert daemons[-1].poll() is None, (directory / "daemon.log").read_text()
        try:
            return bool(urllib.request.urlopen(f"{relay.ingest}/readyz", timeout=5).status == 200)
        except (urllib.error.URLError, OSError):
            return False

    relay.start, relay.stop = start, stop
    try:
        start()
        yield relay
    finally:
        stop()
        server.shutdown()
        server.server_close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser until the block ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=installed("chromium", package="chromium"), args=list(FLAGS)
        )
        yield browser
        browser.close()


def shown(page: Page, name: str) -> None:
    """Wait until the page ``name`` shows its data."""
    expect(page.locator(f'main[data-page="{name}"]')).to_be_visible()


def log_in(page: Page, relay: Relay, role: str, path: str = "/ui/") -> None:
    """Open a page and log in with the form."""
    page.goto(f"{relay.admin}{path}")
    shown(page, "login")
    page.fill('input[type="password"][name="token"]', f"{role}-token-for-the-tests")
    page.click('[data-action="login"]')
