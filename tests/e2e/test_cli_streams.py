"""Every command ends cleanly whatever its output is: full, closed, a pipe nobody reads, a terminal without Unicode."""

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryFile
from typing import IO

import pytest
from tests import warm_start
from tests.warm_start import Ran

COMMANDS: list[tuple[str, ...]] = [
    ("--help",),
    ("presets",),
    ("presets", "show", "wechat-shipping", "-o", "json"),
    ("config", "check"),
    ("config", "show"),
    ("config", "schema"),
    ("doctor",),
    ("status",),
    ("ls",),
    ("explain", "--payload", "order.json", "--platform", "shop-a"),
    ("simulate", "--rate", "1/s", "--for", "1m"),
    ("pause", "小店"),
    ("nonsense",),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a configuration and no daemon; the platform's name is no ASCII or Latin-1."""
    (tmp_path / "order.json").write_text('{"order_id": "1"}')
    (tmp_path / "config.yaml").write_text(
        f'version: 1\ningest: {{listen: "unix:{tmp_path}/in"}}\nadmin: {{listen: "unix:{tmp_path}/admin"}}\n'
        "platforms: {shop-a: {url: http://127.0.0.1:9/}}\n"
    )
    return tmp_path


def ran(place: Path, *arguments: str, out: str = "kept", err: str = "kept", **environ: str) -> Ran:
    """Run a command whose output is kept, full, closed or has lost its reader; input closes with both streams."""
    with ExitStack() as opened:
        files = [opened.enter_context(TemporaryFile()) for _ in range(2)]
        streams = [_stream(word, file, opened) for word, file in zip((out, err), files, strict=True)]
        stdin = None if (out, err) == ("closed", "closed") else opened.enter_context(open(os.devnull, "rb")).fileno()
        process = warm_start.start_on(arguments, [stdin, *streams], env=_environ(**environ), cwd=place)
        code = process.wait(60)
        for file in files:
            file.seek(0)
        told = [file.read().decode(environ.get("PYTHONIOENCODING", "utf-8")) for file in files]
    return Ran(code, *told)


def _stream(word: str, kept: IO[bytes], opened: ExitStack) -> int | None:
    if word == "closed":
        return None
    if word == "full":
        return opened.enter_context(open("/dev/full", "wb")).fileno()
    if word == "kept":
        return kept.fileno()
    reader, writer = os.pipe()
    os.close(reader)
    opened.callback(os.close, writer)
    return writer


def ran_cold(place: Path, script: str, *arguments: str, **environ: str) -> Ran:
    """Run a command from its cold start through the shell, where ``script`` says what becomes of its streams."""
    ended = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "relay", *arguments],
        cwd=place, capture_output=True, timeout=60, check=False, env=_environ(**environ),
    )  # fmt: skip
    encoding = environ.get("PYTHONIOENCODING", "utf-8")
    return Ran(ended.returncode, ended.stdout.decode(encoding), ended.stderr.decode(encoding))


def _environ(**environ: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("RELAY_", "PYTHON"))}, **environ}


SCRIPTS = {
    ("kept", "kept"): '"$@"',
    ("full", "full"): '"$@" >/dev/full 2>&1',
    ("kept", "full"): '"$@" 2>/dev/full',
    ("closed", "closed"): '"$@" <&- >&- 2>&-',
    ("full", "kept"): '"$@" >/dev/full',
    ("gone", "kept"): '{ "$@"; echo $? >code; } | true; exit $(cat code)',
}
"""What the shell makes of output and error for a cold start."""


def warm(place: Path, command: tuple[str, ...], out: str, err: str) -> Ran:
    """Run a command that has been imported before."""
    return ran(place, *command, out=out, err=err)


def cold(place: Path, command: tuple[str, ...], out: str, err: str) -> Ran:
    """Run a command from its cold start."""
    return ran_cold(place, SCRIPTS[out, err], *command)


@pytest.mark.parametrize(
    ("start", "command"),
    [*((warm, command) for command in COMMANDS), (cold, ("presets",)), (cold, ("status",))],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value.__name__,
)
def test_no_way_to_print(
    place: Path, start: Callable[[Path, tuple[str, ...], str, str], Ran], command: tuple[str, ...]
) -> None:
    """A full disk, a closed stream and a reader that has gone: an exit code, at most one line more, no traceback."""
    usual = start(place, command, "kept", "kept")
    for streams in (("full", "full"), ("kept", "full"), ("closed", "closed")):
        ended = start(place, command, *streams)
        told = ended.out + ended.err
        assert ("Traceback" in told, "Exception ignored" in told) == (False, False), (streams, told)
        assert ended.code in {usual.code, 1}, streams
    if usual.out:
        full = start(place, command, "full", "kept")
        assert (full.code, "cannot be written: No space left" in full.err) == (1, True), full.err
    gone = start(place, command, "gone", "kept")
    assert "Traceback" not in gone.err
    assert "Exception ignored" not in gone.err
    assert gone.code in {usual.code, 1}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb18030"])
@pytest.mark.parametrize(
    "command",
    [
        ("presets", "show", "wechat-shipping", "-o", "json"),
        ("simulate", "--rate", "1/s", "--for", "1m"),
        ("pause", "小店"),
    ],
    ids=" ".join,
)
def test_any_encoding(place: Path, command: tuple[str, ...], encoding: str) -> None:
    """What an encoding lacks is escaped; the exit code is the same, and JSON stays JSON."""
    usual = ran(place, *command)
    ended = ran(place, *command, PYTHONIOENCODING=encoding, LC_ALL="C")

    assert "Traceback" not in ended.err
    assert ended.code == usual.code
    if "json" in command:
        assert json.loads(ended.out) == json.loads(usual.out)


@pytest.mark.parametrize(
    "command", [("presets", "show", "wechat-shipping", "-o", "json"), ("pause", "小店")], ids=" ".join
)
def test_an_encoding_from_a_cold_start(place: Path, command: tuple[str, ...]) -> None:
    """What Python itself makes of PYTHONIOENCODING ends as it does for a command that is warm."""
    told = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}

    assert ran_cold(place, '"$@"', *command, **told) == ran(place, *command, **told)


Start = Callable[[Sequence[str], int, Path, Mapping[str, str]], Popen[bytes] | warm_start.Warm]


def _relay(arguments: Sequence[str], terminal: int, place: Path, env: Mapping[str, str]) -> warm_start.Warm:
    return warm_start.start_on(arguments, [terminal] * 3, env=env, cwd=place)


IMPATIENT = """
from relay.cli.commands.trying import simulate
from relay.cli.main import run
from relay.cli.support import progress
simulate._LONG = 1_000
progress._EVERY_S = 0.01
raise SystemExit(run())
"""  # a simulation of a thousand callbacks counts as long, and moves often enough to be seen in half a second


def _impatient(arguments: Sequence[str], terminal: int, place: Path, env: Mapping[str, str]) -> Popen[bytes]:
    return Popen(
        [sys.executable, "-c", IMPATIENT, *arguments],
        cwd=place, stdin=terminal, stdout=terminal, stderr=terminal, env=env,
    )  # fmt: skip


def on_terminal(place: Path, *arguments: str, columns: int, start: Start = _relay, **environ: str) -> str:
    """Run a command on a terminal of so many columns and return what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = start(arguments, theirs, place, {**kept, "TERM": "xterm", **environ})
    os.close(theirs)
    shown = b"".join(_read(ours))
    os.close(ours)
    process.wait(60)
    return shown.decode()


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other end is closed: Linux says EIO
            return
        if not piece:
            return
        yield piece


@pytest.mark.parametrize(
    "command",
    [
        ("presets",),
        ("simulate", "--rate", "5/s", "--for", "1m"),
        ("explain", "--payload", "order.json", "--platform", "shop-a", "--key", "a-rather-long-key " * 5),
    ],
    ids=lambda command: command[0],
)
def test_eighty_columns(place: Path, command: tuple[str, ...]) -> None:
    """On a terminal of 80 columns no line is longer, and words are whole."""
    shown = on_terminal(place, *command, columns=80, NO_COLOR="1")

    assert max(len(line) for line in re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()) <= 80


def frames(shown: str) -> list[str]:
    """Return every text that a line of the terminal held, one after the other."""
    return re.split("[\r\n]+", re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", shown))


def test_a_long_simulation_is_watched(place: Path) -> None:
    """A line says where the virtual time is, however long the file's name; it never takes a second line, and goes."""
    name = "a-name-that-is-longer-than-the-screen-is-wide-" * 3 + ".yaml"
    (place / "config.yaml").rename(place / name)

    simulation = ("simulate", "-c", name, "--rate", "1/s", "--for", "1010s")
    shown = on_terminal(place, *simulation, columns=80, start=_impatient)

    moving = [frame for frame in frames(shown) if " pending" in frame and " of 16m50s" in frame]
    assert moving
    assert max(len(frame.rstrip()) for frame in moving) <= 80
    assert all("screen-is-wide-.yaml" in frame and "━" in frame for frame in moving)
    ended = shown.rindex(" of 16m50s")
    assert f"\x1b[1A\x1b[2K{name}: took " in shown[ended:]


@pytest.mark.parametrize("answers", [True, False])
def test_a_large_post_is_watched(place: Path, answers: bool) -> None:
    """A line says how much has gone; it is erased before the answer, or before the reason why there is none."""
    (place / "orders.ndjson").write_bytes(b'{"order_id":"1"}\n' * 250_000)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = threading.Thread(target=_serve, args=(listener, answers))
        served.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        shown = on_terminal(place, "send", "shop-a", "orders.ndjson", "--ndjson", "--ingest", address, columns=80)
        served.join()

    moving = [frame for frame in frames(shown) if frame.startswith("sending to shop-a")]
    assert any(" of 4.2 MB" in frame for frame in moving)
    assert max(len(frame.rstrip()) for frame in moving) <= 80
    last = "0 accepted, 0 duplicates" if answers else "relay: daemon not reachable"
    assert f"\x1b[1A\x1b[2K{last}" in shown


def _serve(listener: socket.socket, answers: bool) -> None:
    """Take one post whole and answer it, or hang up in the middle of it."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as stream:
        size = 0
        while (line := stream.readline()).strip():
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        stream.read(size if answers else size // 2)
        body = b'{"accepted": 0, "duplicates": 0, "ids": []}'
        if answers:
            connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class Operations(BaseHTTPRequestHandler):
    """A daemon whose operation over 40 dead letters does 20 of them between two looks."""

    done = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def do_GET(self) -> None:
        type(self).done += 20
        self._answer()

    def _answer(self) -> None:
        at = "2026-01-01T00:00:00.000Z"
        running = self.done < 40
        operation = {
            "id": 7,
            "action": "drop",
            "state": "running" if running else "done",
            "matched": 40,
            "done": self.done,
            "skipped": {},
            "failed": [],
            "waiting": 0,
            "started_at": at,
            "finished_at": None if running else at,
            "filter": {},
            "options": {},
        }
        body = json.dumps(operation).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def test_an_operation_is_watched(place: Path) -> None:
    """A line says how many are done; it is erased before the result."""
    with HTTPServer(("127.0.0.1", 0), Operations) as server:
        served = threading.Thread(target=server.serve_forever)
        served.start()
        admin = f"127.0.0.1:{server.server_port}"
        shown = on_terminal(place, "dead", "drop", "--yes", "--admin", admin, columns=80)
        server.shutdown()
        served.join()

    moving = [frame for frame in frames(shown) if frame.startswith("operation 7 ━")]
    assert any("20 of 40" in frame for frame in moving)
    assert max(len(frame.rstrip()) for frame in moving) <= 80
    assert "\x1b[1A\x1b[2Koperation 7: 40 of 40 dropped" in shown


def test_states_are_coloured(place: Path) -> None:
    """On a terminal a state has its colour, unless NO_COLOR asks for none; a pipe never gets any."""
    assert "\x1b[31mfail\x1b[0m" in on_terminal(place, "doctor", columns=80)
    assert "\x1b[3" not in on_terminal(place, "doctor", columns=80, NO_COLOR="1")
    assert "\x1b" not in ran(place, "doctor").out
