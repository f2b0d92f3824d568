"""Routing as an operator meets it: tried from the command line, changed by a reload, and dead letters routed again."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from relay.cli.main import run
from relay.standin.ports import free_port
from tests import warm_start

pytestmark = pytest.mark.timeout(120)

ROUTES = """\
routes:
  - {match: {event: "order.*", channel: [wechat, wx]}, to: [wx, audit]}
"""
CONFIG = """\
version: 1
ingest: {{listen: "127.0.0.1:{ingest}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
quotas: {{app: {{rate: 40/s}}}}
platforms:
  wx:
    url: http://127.0.0.1:9/wx
    rate: 100/min
    quotas: [app]
    key: order_id
    batch: {{max_bytes: 1KiB}}
    accept: {{path: /wx/notify, reply: {{body: '{{"errcode":0}}'}}}}
  audit: {{url: http://127.0.0.1:9/audit, envelope: single}}
{routes}  - otherwise: dead_letter
"""
CASES = """\
- {payload: {channel: wx, order_id: 7}, event: order.paid, expect: {to: [audit, wx], key: {wx: 7, audit: null}}}
- {name: stock is nobody's, payload: {channel: wx}, event: stock, expect: {to: dead_letter}}
- payload: no json
  platform: wx
  expect: {refused: invalid_json}
- {payload: a=1, content_type: text/plain, platform: audit, expect: {to: [audit]}}
"""


class Relay:
    """A configuration, the daemon on it, and the commands an operator types."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "config.yaml"
        self.ingest, self.admin = free_port(), free_port()
        self.write(ROUTES)
        self.process: warm_start.Warm | None = None

    def write(self, routes: str) -> None:
        """Write the configuration with these routes before its last one."""
        text = CONFIG.format(ingest=self.ingest, admin=self.admin, routes=routes or "routes:\n")
        self.file.write_text(text)

    def __call__(self, *arguments: str, stdin: str = "") -> warm_start.Ran:
        """Run a command."""
        env = {**os.environ, "RELAY_CONFIG": str(self.file)}
        return warm_start.run_here(*arguments, stdin=stdin.encode(), env=env)

    def start(self) -> None:
        """Start the daemon and wait until it accepts."""
        with (self.directory / "daemon.log").open("wb") as log:
            self.process = warm_start.start("run", "-c", str(self.file), output=log, env=os.environ)
        self.until(lambda: self.get(self.ingest, "/readyz")["status"] == "ok")

    def get(self, port: int, path: str) -> Any:
        """Ask a listener."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=40) as answer:
            return json.load(answer)

    def post(self, body: bytes, path: str = "/v1/callbacks", **headers: str) -> tuple[int, Any]:
        """Post a callback."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.ingest}{path}", body, named, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a condition; a daemon that does not answer yet is waited for too."""
        for _ in range(2500):
            with suppress(OSError):
                if holds():
                    return
            Event().wait(0.02)
        raise AssertionError((self.directory / "daemon.log").read_text())


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A configuration, and a daemon that is not started."""
    made = Relay(tmp_path)
    yield made
    if made.process is not None:
        made.process.send_signal(signal.SIGKILL)
        made.process.wait(60)


def test_cases_that_hold(relay: Relay) -> None:
    """Every case is one line, the number of them the last; exit 0; nothing is opened or written."""
    (relay.directory / "cases.yaml").write_text(CASES)
    before = sorted(relay.directory.iterdir())
    done = relay("config", "test", str(relay.directory / "cases.yaml"))
    assert (done.code, done.err) == (0, "")
    lines = [line.replace(f"{relay.directory}/", "") for line in done.out.splitlines()]
    assert lines == [
        'ok   cases.yaml:1: order.paid {"channel":"wx","order_id":7}',
        "ok   cases.yaml:2: stock is nobody's",
        "ok   cases.yaml:3: no json",
        "ok   cases.yaml:6: a=1",
        "4 cases, 0 failed",
    ]
    assert sorted(relay.directory.iterdir()) == before


def test_cases_as_json(relay: Relay) -> None:
    """An object per case, in a list or one a line, with the same exit code; what is wrong with the file is no case."""
    cases = relay.directory / "cases.yaml"
    cases.write_text("- {payload: {channel: wx}, event: order.x, expect: {to: [wx, audit]}}\n- {expect: {to: [wx]}}\n")
    done = relay("config", "test", str(cases), "-o", "json")
    lines = relay("config", "test", str(cases), "-o", "jsonl")
    cases.write_text("- {}\n")
    broken = relay("config", "test", str(cases), "-o", "json")

    assert (done.code, lines.code, broken.code) == (1, 1, 1)
    found = json.loads(done.out)
    assert [json.loads(line) for line in lines.out.splitlines()] == found
    assert [(one["file"], one["line"], one["ok"]) for one in found] == [(str(cases), 1, True), (str(cases), 2, False)]
    assert found[1]["problems"] == ["expected to: [wx], got [_unrouted] by otherwise"]
    assert (broken.out, "E011" in broken.err) == ("", True)


def test_cases_that_fail(relay: Relay) -> None:
    """Each says what was expected, what came, and which route decided; exit 1."""
    cases = relay.directory / "cases.yaml"
    cases.write_text(
        "cases:\n"
        "- {payload: {channel: wx, order_id: 7}, event: order.x, expect: {to: [wx], key: 8}}\n"
        "- {payload: {}, event: stock, expect: {to: reject}}\n"
        "- {payload: x, platform: wx, expect: {to: [wx]}}\n"
        "- {payload: x, platform: nobody, expect: {to: []}}\n"
        "- {payload: {}, platform: wx, expect: {refused: too_large}}\n"
    )
    done = relay("config", "test", str(cases))
    assert done.code == 1
    told = [line.partition("; ")[2] for line in done.out.splitlines()]
    assert told == [
        "expected to: [wx], got [wx, audit] by routes[0]; "
        "expected key 8 for wx, got 7; expected key 8 for audit, got none",
        "expected to: [], got [_unrouted] by otherwise",
        "refused with invalid_json: not valid JSON at byte 0: invalid character",
        "there is no platform 'nobody'",
        "expected to be refused with too_large, got to: [wx]",
        "",
    ]  # fmt: skip
    assert done.out.splitlines()[-1] == "5 cases, 5 failed"


def test_cases_that_cannot_be_read(relay: Relay) -> None:
    """All mistakes in the file of cases at once, with their places; a missing file too."""
    cases = relay.directory / "cases.yaml"
    cases.write_text("- {payload: {}, expct: {to: [a]}}\n- {event: 5, expect: {too: [a], to: 3}}\n- x\n")
    done = relay("config", "test", str(cases))
    assert done.code == 1
    assert [line.removeprefix(f"{cases}:") for line in done.out.splitlines()] == [
        "1:3: E011 the case expects nothing; add expect: {to: [shop-a]}",
        "1:17: E010 unknown key 'expct'; did you mean 'expect'?",
        "2:4: E013 `event` must be text, not 5",
        "2:23: E010 unknown key 'too'; did you mean 'to'?",
        "2:33: E013 `to` must be a list of platforms; or dead_letter, or reject",
        "3:3: E011 the case expects nothing; add expect: {to: [shop-a]}",
        "3:3: E013 a case must be a mapping, not 'x'",
    ]
    missing = relay("config", "test", "nowhere.yaml")
    assert (missing.code, "E001" in missing.out) == (1, True)


def test_explain_a_payload(relay: Relay) -> None:
    """Where it would go, with which key, envelope and limits; refused ones say why and exit 1."""
    done = relay("explain", "--payload", "-", "--event", "order.paid", stdin='{"channel":"wx","order_id":7}')
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "decided by routes[0]",
        "to        wx",
        "key       7",
        "request   POST http://127.0.0.1:9/wx, application/json",
        "envelope  array, up to 100 a request; alone it takes 31 of 1024 bytes",
        "limits    100/min, 40/s (shared: app)",
        "expires   1d after it is accepted",
        "to        audit",
        "key       none: in no order",
        "request   POST http://127.0.0.1:9/audit, application/json",
        "envelope  single, one callback a request; alone it takes 29 of 2097152 bytes",
        "limits    none but what is learned",
        "expires   1d after it is accepted",
    ]
    kept = relay("explain", "--payload", "-", "-o", "json", stdin="{}")
    assert json.loads(kept.out)["targets"][0]["platform"] == "_unrouted"
    refused = relay("explain", "--payload", "-", "--platform", "wx", stdin=f'"{"x" * 2000}"')
    assert (refused.code, refused.out[:23]) == (1, "refused with too_large:")


def test_explain_needs_one_thing_to_explain(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ID or a payload, and a platform that exists; else wrong usage."""
    monkeypatch.setenv("RELAY_CONFIG", str(relay.file))
    payload = str(relay.file)
    for wrong in ([], ["an-id", "--payload", payload], ["--payload", payload, "--platform", "nobody"]):
        assert run(["explain", *wrong]) == 2


def test_routes_in_the_daemon(relay: Relay) -> None:
    """Posts fan out, the unrouted are kept; a reload swaps the routes, a retry routes them; the ledger balances."""
    relay.start()
    body = b'{"channel": "wx", "order_id": 1}'
    status, told = relay.post(body, Relay_Event="order.paid", Idempotency_Key="1")
    assert (status, list(told["ids"])) == (202, ["wx", "audit"])
    assert relay.post(body, "/wx/notify") == (200, {"errcode": 0})
    strays = [relay.post(b'{"order_id": %d}' % n, Relay_Event="stock")[1]["ids"]["_unrouted"] for n in range(3)]
    (listed,) = (relay.get(relay.admin, "/v1/dead-letters?platform=_unrouted"),)
    assert [item["id"] for item in listed["items"]] == strays[::-1]
    view = relay.get(relay.admin, "/v1/platforms/_unrouted")
    assert (view["dead"], view["pending"]) == (3, 0)

    done = relay("dead", "retry", "--platform", "_unrouted", "--yes")
    assert done.out == (
        "operation 1: 0 of 3 pending again; 3 skipped: still no route takes it (relay explain --payload says why)\n"
    )
    relay.write("routes:\n  - {match: {event: stock}, to: [wx, audit]}\n")
    assert relay("reload").code == 0
    # The routes have changed, the answer to the first post has not.
    assert relay.post(body, Relay_Event="order.paid", Idempotency_Key="1") == (202, told)
    done = relay("dead", "retry", "--platform", "_unrouted", "--yes")
    assert (done.code, done.out) == (0, "operation 2: 3 of 3 pending again\n")

    ledger = relay.get(relay.admin, "/v1/ledger")
    assert ledger["total"]["unaccounted"] == 0
    assert {name: counts["accepted"] for name, counts in ledger["platforms"].items()} == {
        "wx": 5,
        "audit": 4,
        "_unrouted": 3,
    }
    assert ledger["platforms"]["_unrouted"]["superseded"] == 3
    found = relay.get(relay.admin, f"/v1/callbacks/{strays[0]}")
    successor = relay.get(relay.admin, f"/v1/callbacks/{found['superseded_by']}")
    assert (found["state"], found["reason"], successor["platform"], successor["key"]) == (
        "superseded",
        "rerouted",
        "wx",
        "0",
    )
    assert b'relay_callbacks_total{platform="_unrouted",result="accepted"} 3.0' in _metrics(relay)
    explained = relay("explain", strays[0])
    assert f"{found['superseded_by']} stands for it (rerouted)" in explained.out
    assert relay("doctor", "-o", "json").code == 0


def test_explain_a_callback(relay: Relay) -> None:
    """Why it waits and until when, what its platform does, and what an operator can do."""
    relay.start()
    assert relay("pause", "audit", "--reason", "sale").code == 0
    _, told = relay.post(b'{"channel": "wx"}', Relay_Event="order.paid")
    paused = relay("explain", told["ids"]["audit"])
    assert paused.code == 0
    assert "pending for audit: an operator paused audit (sale)" in paused.out
    assert "to do  relay resume audit" in paused.out
    failing: dict[str, Any] = {}

    def has_failed() -> bool:  # a request that is under way is told of too
        failing.update(json.loads(relay("explain", told["ids"]["wx"], "-o", "json").out))
        return bool(failing["last_attempt"] and failing["last_attempt"]["outcome"])

    relay.until(has_failed)
    assert (failing["state"], failing["last_attempt"]["outcome"]) == ("pending", "down")
    assert failing["until"] is not None
    stray = relay.post(b"{}", Relay_Event="x")[1]["ids"]["_unrouted"]
    dead = relay("explain", stray)
    assert f"{stray}  dead for _unrouted: it will not be tried again without a person (unrouted)" in dead.out
    assert f"to do  relay dead retry {stray}" in dead.out
    assert relay("explain", "nonsense").code == 1


def _metrics(relay: Relay) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{relay.admin}/metrics", timeout=40) as answer:
        text: bytes = answer.read()
    return text
