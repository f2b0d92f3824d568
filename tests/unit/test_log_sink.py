"""Log lines where nobody reads: nothing waits for them, they are dropped and counted, and it is said afterwards."""

import fcntl
import io
import json
import os
import pty
import socket
import sys
import threading
import tty
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pytest
from relay.telemetry import sink
from relay.telemetry.logging import bridge_stdlib, make_logger
from relay.telemetry.sink import LineSink

Channel = tuple[BinaryIO, Callable[[], bytes]]


@pytest.fixture(params=["pipe", "pipe that cannot be opened anew", "terminal", "socket"])
def channel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    """What the log may be connected to, and what reads all there is now."""
    if request.param == "socket":
        ours, theirs = socket.socketpair()
        reader, writer = ours.detach(), theirs.detach()
    elif request.param == "terminal":
        reader, writer = pty.openpty()
        tty.setraw(writer)
    else:
        reader, writer = os.pipe()
    if request.param == "pipe that cannot be opened anew":
        monkeypatch.setattr(sink.os, "open", _refused)
    os.set_blocking(reader, False)

    def read() -> bytes:
        try:
            return os.read(reader, 1 << 16)
        except BlockingIOError:
            return b""

    with open(writer, "wb", buffering=0) as file:
        yield file, read  # type: ignore[misc]
    os.close(reader)


def _refused(*_: object) -> int:
    raise PermissionError


def everything(read: Callable[[], bytes], last: bytes) -> list[bytes]:
    """Read until a line holds ``last``."""
    got = b""
    while last not in got or not got.endswith(b"\n"):
        got += read()
    return got.splitlines()


def test_nothing_waits_for_the_reader(channel: Channel) -> None:
    """Lines go on being taken when nobody reads; what fitted comes in order, then how many are missing, then more."""
    file, read = channel
    log = make_logger(file=file)
    for n in range(6000):
        log.info("line", n=n, filler="x" * 200)
    first = everything(read, b"log_lines_dropped")
    log.info("after")
    lines = [json.loads(line) for line in first + everything(read, b"after")]
    numbers = [line["n"] for line in lines if line["event"] == "line"]
    assert numbers == list(range(len(numbers)))
    (gap,) = [line for line in lines if line["event"] == "log_lines_dropped"]
    assert gap["lines"] == 6000 - len(numbers) > 0
    assert [line["event"] for line in lines[-2:]] == ["log_lines_dropped", "after"]


def test_what_was_handed_down_still_waits(channel: Channel) -> None:
    """The descriptor is shared with other processes: they must not suddenly meet one that does not wait."""
    file, _ = channel
    LineSink(file).msg(b"line")
    assert not fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK


def test_last_line_gets_out(channel: Channel) -> None:
    """Somebody who reads slowly gets all there is before the process ends; nobody who does not is waited for."""
    file, read = channel
    made = LineSink(file)
    for _ in range(100):
        made.msg(b"x" * 2000)
    made.msg(b"the last line")
    made.close(0.01)  # nobody reads: it comes back
    got: list[bytes] = []
    slow = threading.Thread(target=lambda: got.extend(everything(read, b"the last line")))
    slow.start()
    made.close(20)
    slow.join()
    assert got[-1] == b"the last line"
    assert made.lost == 0


def test_reader_that_is_gone() -> None:
    """Lines for nobody are counted and stop nothing, also those that waited."""
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as file:
        made = LineSink(file)
        while made._flowing.is_set():
            made.msg(b"x" * 1000)
        os.close(reader)
        made.close(20)
        before = made.lost
        made.msg(b"nobody")
        assert made.lost == before + 1 > 1


def test_strays_go_to_the_log_too(capfd: pytest.CaptureFixture[str]) -> None:
    """Warnings and errors that nobody can catch are lines of the log and not written past it."""
    file = io.BytesIO()
    undo = bridge_stdlib(make_logger(file=file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", stacklevel=1)

        class Fails:
            def __del__(self) -> None:
                raise ValueError("private")

        Fails()
    finally:
        undo()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["event"], line.get("logger"), line.get("error")) for line in lines] == [
        ("library", "py.warnings", None), ("library", None, "ValueError"),
    ]  # fmt: skip
    assert "private" not in file.getvalue().decode()
    assert capfd.readouterr() == ("", "")
    assert sys.unraisablehook is not None
