"""The exit codes of every command: daemon up, daemon down with a store to read, and neither."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests import warm_start

Where = Literal["up", "down", "nothing"]
# command: exit code with the daemon up, down with its store, and with nothing at all. ID is a callback there is.
CODES: dict[str, tuple[int, int, int]] = {
    "status": (0, 0, 4),
    "ls": (0, 0, 4),
    "show ID": (0, 0, 4),
    "show NOPE": (1, 1, 4),
    "explain ID": (0, 0, 4),
    "explain NOPE": (1, 1, 4),
    "tap nowhere": (1, 4, 4),
    "tap --lines 0": (2, 2, 2),
    "explain E020": (0, 0, 0),
    "explain store_full": (0, 0, 0),
    "explain store_ful": (1, 1, 1),
    "explain E999": (1, 1, 1),
    "explain": (2, 2, 2),
    "explain --payload order.json --platform shop-a": (0, 0, 0),
    "dead ls": (0, 0, 4),
    "dead groups": (0, 0, 4),
    "dead groups --state held": (0, 0, 4),
    "dead retry --yes": (0, 4, 4),
    "dead retry NOPE --yes": (1, 4, 4),
    "dead retry NOPE --dry-run": (1, 4, 4),
    "dead retry ID --yes": (1, 4, 4),
    "dead drop NOPE --yes": (1, 4, 4),
    "resolve ID --as delivered --yes": (1, 4, 4),
    "resolve --platform shop-a --as dead --yes": (0, 4, 4),
    "resolve --as dead": (2, 2, 2),
    "resolve ID": (2, 2, 2),
    "send shop-a order.json": (0, 4, 4),
    "send nowhere order.json": (1, 4, 4),
    "send shop-a none.json": (2, 2, 2),
    "pause shop-a": (0, 4, 4),
    "pause shop-a --for 30m": (0, 4, 4),
    "pause shop-a --for soon": (1, 4, 4),
    "pause nowhere": (1, 4, 4),
    "resume shop-a": (0, 4, 4),
    "flush shop-a": (0, 4, 4),
    "limit shop-a": (0, 4, 4),
    "limit nowhere": (1, 4, 4),
    "reload --dry-run": (0, 4, 4),
    "reload --wait": (0, 4, 4),
    "config check": (0, 0, 0),
    "config check --strict": (3, 3, 3),
    "config check --probe": (1, 1, 1),
    "config check bad.yaml --probe": (1, 1, 1),
    "config check bad.yaml": (1, 1, 1),
    "config show": (0, 0, 0),
    "config schema": (0, 0, 0),
    "config diff": (0, 4, 4),
    "config diff config.yaml other.yaml": (0, 0, 0),
    "config diff config.yaml other.yaml --exit-code": (3, 3, 3),
    "config diff config.yaml config.yaml --exit-code": (0, 0, 0),
    "doctor": (0, 0, 1),
    "backup copy.db": (0, 0, 1),
    "backup order.json": (1, 1, 1),
    "backup": (2, 2, 2),
    "restore other.yaml": (1, 1, 1),
    "restore none.db": (2, 2, 2),
    "keys new": (0, 0, 0),
    "keys status": (0, 0, 4),
    "keys rotate": (1, 1, 4),
    "keys forget --key none --reason test": (0, 0, 4),
    "keys forget --before 2020-01-01 --reason test": (0, 0, 4),
    "keys forget --key none": (2, 2, 2),
    "keys forget --reason test": (2, 2, 2),
    "keys forget --key none --before 1d --reason test": (2, 2, 2),
    "presets": (0, 0, 0),
    "presets show nothing": (2, 2, 2),
    "simulate --rate 1/s --for 10s": (0, 0, 0),
    "simulate": (2, 2, 2),
    "completion bash": (0, 0, 0),
    "completion tcsh": (2, 2, 2),
    "service print": (0, 0, 0),
    "service print --only relay.socket": (0, 0, 0),
    "service print --only nothing": (2, 2, 2),
    "nonsense": (2, 2, 2),
    "status --nonsense": (2, 2, 2),
}
LISTS = (
    *("status", "ls", "show ID", "explain ID", "explain E020", "dead ls", "dead groups"),
    *("limit shop-a", "keys status", "config check", "doctor", "presets"),
)


class Place:
    """A directory with a configuration that has a warning, and perhaps a daemon and a store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.known = "1K0VE24A9Y000R9"
        head = f'version: 1\ningest: {{listen: "unix:{directory}/in"}}\nadmin: {{listen: "unix:{directory}/admin"}}\n'
        text = head + "platforms: {shop-a: {url: http://127.0.0.1:9/}}\nquotas: {unused: {rate: 1/s}}\n"
        (directory / "config.yaml").write_text(text)
        (directory / "other.yaml").write_text(text.replace("127.0.0.1:9", "127.0.0.1:10"))
        (directory / "bad.yaml").write_text("version: 2\n")
        (directory / "order.json").write_text('{"order_id": "1"}')

    def run(self, commands: list[list[str]]) -> list[tuple[int, str, str]]:
        """Run commands there, all in one process; return of each its code and what it wrote."""
        ran = subprocess.run(
            [sys.executable, "-c", _RUN_ALL, json.dumps(commands)], cwd=self.directory, capture_output=True, text=True,
            timeout=120, check=True, stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "STATE_"))},
        )  # fmt: skip
        return [(code, out, err) for code, out, err in json.loads(ran.stdout)]


_RUN_ALL = """
import contextlib, io, json, sys, traceback
from relay.cli.main import run
ended = []
for command in json.loads(sys.argv[1]):
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run(command)
        except Exception:
            code = -1
            traceback.print_exc()
    for stream in (out, err):
        stream.flush()
    ended.append((code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()))
print(json.dumps(ended))
"""


@pytest.fixture(params=["up", "down", "nothing"], scope="module")
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Where, Place]]:
    """Each of the three."""
    kind: Where = request.param
    place = Place(tmp_path_factory.mktemp(kind))
    if kind == "nothing":
        yield kind, place
        return
    log = place.directory / "log"
    with log.open("wb") as output:
        daemon = warm_start.start("run", output=output, env=os.environ, cwd=place.directory)
    while '"event":"ready"' not in log.read_text():
        assert daemon.poll() is None, log.read_text()
        time.sleep(0.02)
    place.known = place.run([["send", "shop-a", "order.json"]])[0][1].strip()
    if kind == "up":
        yield kind, place
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    if kind == "down":
        yield kind, place


def test_codes_and_forms(where: tuple[Where, Place]) -> None:
    """Each command's code is as in the table, no end is a traceback; what shows something shows it as JSON too.

    The form changes no code. All of them run one after the other in one process.
    """
    kind, place = where
    at = ("up", "down", "nothing").index(kind)
    shown = [command for command in LISTS if CODES[command][at] in (0, 1)]
    asked = [command.replace("ID", place.known).split() for command in shown]
    ended = place.run(
        [
            *(command.replace("ID", place.known).split() for command in CODES),
            *([*words, "-o", "json"] for words in asked),
            *([*words, "-o", "jsonl"] for words in asked),
        ]
    )
    whole, lines = ended[len(CODES) : -len(shown)], ended[-len(shown) :]
    wrong = [
        (command, ran, codes[at])
        for (command, codes), ran in zip(CODES.items(), ended[: len(CODES)], strict=True)
        if ran[0] != codes[at]
    ]

    assert not wrong
    for command, one, many in zip(shown, whole, lines, strict=True):
        assert (one[0], many[0]) == (CODES[command][at], CODES[command][at]), command
        json.loads(one[1])
        assert all(json.loads(line) is not None for line in many[1].splitlines()), command
