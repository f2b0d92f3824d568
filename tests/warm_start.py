"""Starts ``relay`` as a process of its own without the second of CPU that importing it takes.

A mother process imports everything once. For each start it forks, and the child runs the command with arguments,
directory, environment and output of its own: it has its own number, memory and signals, and ends by itself. A warning
is an error there. Tests about the start itself, Python's options or what is imported run ``python -m relay`` instead.
"""

import asyncio
import atexit
import ctypes
import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, NoReturn

_IMPORTED = ("relay.daemon.app", "relay.config.load", "aiohttp", "rich.table", "uvloop")  # and all commands
_MESSAGE_BYTES = 1 << 20
_DESCRIPTORS = 256  # more than the mother has


class Warm:
    """One ``relay`` that was started."""

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended  # a pipe: the mother writes how it ended

    def poll(self) -> int | None:
        """Return its exit code, below 0 for a signal; None while it runs."""
        if self.returncode is None:
            try:
                told = os.read(self._ended, 16)
            except BlockingIOError:
                return None
            os.close(self._ended)
            self.returncode = int(told)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end; return the exit code. Blocks."""
        if self.returncode is None:
            select.select([self._ended], [], [], timeout_s)
        code = self.poll()
        assert code is not None, f"process {self.pid} has not ended within {timeout_s:g} s"
        return code

    async def end(self) -> int:
        """Wait for its end; return the exit code."""
        while (code := self.poll()) is None:
            loop = asyncio.get_running_loop()
            told = loop.create_future()
            loop.add_reader(self._ended, told.set_result, None)
            try:
                await told
            finally:
                loop.remove_reader(self._ended)
        return code


class Ran(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return what it wrote, read as JSON."""
        return json.loads(self.out)


class Inside(NamedTuple):
    """Where a command runs: in the mount and network namespaces of a process, as a user without rights."""

    process: int
    uid: int


def start(*arguments: str, output: IO[bytes], env: Mapping[str, str], cwd: Path | None = None) -> Warm:
    """Start ``relay`` with these arguments; standard output and error go to ``output``."""
    with open(os.devnull, "rb") as nothing:
        return start_on(arguments, (nothing.fileno(), output.fileno(), output.fileno()), env=env, cwd=cwd)


async def run(*arguments: str, stdin: bytes = b"", env: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Ran:
    """Run a command to its end."""
    with _files(stdin) as files:
        started = start_on(arguments, [each.fileno() for each in files], env=env, cwd=cwd)
        return _ran(await started.end(), files)


def run_here(
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    inside: Inside | None = None,
) -> Ran:
    """Run a command to its end, of a minute at most. Blocks."""
    with _files(stdin) as files:
        started = start_on(arguments, [each.fileno() for each in files], env=env, cwd=cwd, inside=inside)
        return _ran(started.wait(60), files)


@contextmanager
def _files(stdin: bytes) -> Iterator[Sequence[IO[bytes]]]:
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        yield given, out, err


def _ran(code: int, files: Sequence[IO[bytes]]) -> Ran:
    for file in files:
        file.seek(0)
    _, out, err = (file.read().decode() for file in files)
    return Ran(code, out, err)


def start_on(
    arguments: Sequence[str],
    streams: Sequence[int | None],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    inside: Inside | None = None,
) -> Warm:
    """Start ``relay`` with these descriptors as its standard streams; None is a stream that is closed."""
    channel = _channel()
    ended, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    given = {number: stream for number, stream in enumerate(streams) if stream is not None}
    request = {"arguments": arguments, "streams": [*given], "env": dict(env), "cwd": str(cwd or Path.cwd())}
    socket.send_fds(channel, [json.dumps({**request, "inside": inside}).encode()], [*given.values(), told])
    os.close(told)
    return Warm(int(channel.recv(_MESSAGE_BYTES)), ended)


_channels: list[socket.socket] = []


def _channel() -> socket.socket:
    if not _channels:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-W", "error", "-m", __name__, str(theirs.fileno())]
            mother = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[1])
        _channels.append(ours)

        def end() -> None:
            ours.close()
            mother.wait()

        atexit.register(end)
    return _channels[0]


def _mother(channel: socket.socket) -> None:
    """Serve until the tests have ended. Returns in each child too, which then is a process that runs ``relay``."""
    looks = selectors.DefaultSelector()
    looks.register(channel, selectors.EVENT_READ)
    while True:
        for key, _ in looks.select():
            if key.fileobj is not channel:
                pid, told = key.data
                looks.unregister(key.fd)
                os.close(key.fd)
                os.write(told, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                os.close(told)
                continue
            message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 4)
            if not message:
                os._exit(0)
            *streams, told = descriptors
            pid = os.fork()
            if not pid:
                looks.close()
                channel.close()
                return _become(json.loads(message), streams)
            for stream in streams:
                os.close(stream)
            looks.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))
            channel.send(str(pid).encode())


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    for number, stream in zip(request["streams"], streams, strict=True):
        os.dup2(stream, number)
    os.closerange(3, _DESCRIPTORS)
    if request["inside"]:
        _enter(Inside(*request["inside"]))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if number in request["streams"]:
            setattr(sys, name, _as_at_a_start(number, mode, getattr(sys, name).errors))
        else:
            os.close(number)
            setattr(sys, name, None)
    sys.argv = ["relay", *request["arguments"]]


def _as_at_a_start(number: int, mode: str, usual: str) -> IO[str]:
    """Return the standard stream that Python would have made: PYTHONIOENCODING counts, a terminal gets whole lines."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    handler = errors or "strict" if encoding and number < 2 else usual
    return open(number, mode, encoding=encoding or "utf-8", errors=handler, closefd=False)


def _enter(inside: Inside) -> None:
    """Go into the namespaces of a process, then become a user who has no group and no right."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in ("net", "mnt"):
        with open(f"/proc/{inside.process}/ns/{kind}", "rb") as namespace:
            if libc.setns(namespace.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"setns {kind}")
    if inside.uid:
        os.setgroups([])
        os.setresgid(inside.uid, inside.uid, inside.uid)
        os.setresuid(inside.uid, inside.uid, inside.uid)


def _run(command: Callable[[], object]) -> NoReturn:
    """Run it and end at once: to take apart all that was imported would take 0.2 s of CPU."""
    code = 0
    try:
        command()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    command_line = import_module("relay.cli.main")
    for module in (*_IMPORTED, *(command.module for command in command_line.SUBCOMMANDS.values())):
        import_module(module)
    import_module("relay.config.load").examine("version: 1", path="none.yaml")  # compiles the schema
    gc.freeze()
    _mother(socket.socket(fileno=int(sys.argv[1])))
    _run(command_line.main)
