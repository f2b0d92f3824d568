"""Writes log lines without ever waiting for their reader.

If the reader of a pipe or terminal has stopped, a plain write waits for ever, and the whole relay with it. So a line
that cannot be written at once waits here, up to a bound. Beyond the bound lines are dropped and counted. When the
reader goes on, it gets the lines that waited, then a line that says how many are missing, then the lines that follow.
"""

import atexit
import os
import select
import stat
import threading
from collections.abc import Callable
from typing import BinaryIO

_MOST_WAITING_BYTES = 256 * 1024  # some thousand lines, beside the 64 KiB that the pipe itself holds
_CHUNK_BYTES = 64 * 1024
_LOOK_S = 0.05  # how often a write to a reader that has stopped is tried
_LAST_WORDS_S = 1.0  # at the end of the process a reader has this long to take what waits


class LineSink:
    """Writes one line per call, from any thread; a log that cannot be written must not stop a delivery."""

    def __init__(self, file: BinaryIO) -> None:
        self.lost = 0  # lines that nobody will see: dropped, the disk was full, or the reader is gone
        self.report_dropped: Callable[[int], object] = lambda count: None  # writes the line that says how many
        self._write = _writer(file)
        self._lock = threading.RLock()  # re-entrant: the line about dropped lines is written inside another write
        self._waiting = bytearray()
        self._dropped = 0  # not reported yet
        self._flowing = threading.Event()  # set: no line waits
        self._flowing.set()

    def msg(self, line: bytes) -> None:
        """Write ``line`` now, or keep it until the reader goes on, or count it as lost."""
        with self._lock:
            if self._flowing.is_set():
                left = self._put(line + b"\n")
                if left:
                    self._stall(left)
            elif self._dropped or len(self._waiting) + len(line) >= _MOST_WAITING_BYTES:
                self._drop()
            else:
                self._waiting += line + b"\n"

    debug = info = warning = error = critical = msg

    def close(self, wait_s: float = _LAST_WORDS_S) -> None:
        """Wait for what still waits, at most ``wait_s``."""
        self._flowing.wait(wait_s)

    def _put(self, data: bytes | bytearray) -> bytes | bytearray:
        """Write what can be written at once; return the rest."""
        try:
            return data[self._write(data[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return data
        except (OSError, ValueError):
            self.lost += data.count(b"\n")  # there is no place to report it; a debugger finds the count
            return b""

    def _stall(self, left: bytes | bytearray) -> None:
        self._waiting += left
        self._flowing.clear()
        try:
            threading.Thread(target=self._go_on, name="log", daemon=True).start()
        except RuntimeError:  # no thread can be started: the next line tries again
            self._waiting.clear()
            self._drop()
            self._flowing.set()
        atexit.unregister(self.close)
        atexit.register(self.close)

    def _drop(self) -> None:
        self.lost += 1
        self._dropped += 1

    def _go_on(self) -> None:
        """Write what waits as the reader takes it, until nothing waits. Runs in a thread of its own."""
        pause = threading.Event()
        while not self._flowing.is_set():
            with self._lock:
                before = len(self._waiting)
                self._waiting = bytearray(self._put(self._waiting))
                moved = len(self._waiting) < before
                if not self._waiting:
                    dropped, self._dropped = self._dropped, 0
                    if dropped:
                        self.report_dropped(dropped)  # waits here, as the first line of what follows
                    if not self._waiting:
                        self._flowing.set()
            if not moved:
                pause.wait(_LOOK_S)


def _writer(file: BinaryIO) -> Callable[[bytes | bytearray], int]:
    """Return what writes to ``file`` without waiting: it returns the bytes taken or raises ``BlockingIOError``."""
    try:
        descriptor = file.fileno()
        kind = os.fstat(descriptor).st_mode
    except (OSError, ValueError, AttributeError):  # not a file of the operating system: it cannot block
        return lambda data: _write_out(file, data)
    if stat.S_ISSOCK(kind):  # the journal's, under systemd: a socket cannot be opened anew
        return lambda data: _write_if_ready(descriptor, data)
    if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
        return lambda data: _write_out(file, data)
    try:
        # Opened anew: on the descriptor we inherited O_NONBLOCK would hold for other writers too, such as the shell.
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # not allowed, or not Linux
        return lambda data: _write_if_ready(descriptor, data)
    return lambda data: os.write(own, data)


def _write_out(file: BinaryIO, data: bytes | bytearray) -> int:
    file.write(data)
    file.flush()
    return len(data)


def _write_if_ready(descriptor: int, data: bytes | bytearray) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[: select.PIPE_BUF])  # this much always fits into a pipe or socket that is ready
