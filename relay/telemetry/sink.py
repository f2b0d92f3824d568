"""Where log lines go, without ever waiting for whoever reads them.

A pipe or terminal whose reader has stopped holds up a plain write for ever, and with it everything the relay does. So
a line that cannot go out at once waits here, up to a bound; beyond it lines are dropped and counted, and when the
reader goes on, what waited comes first, then a line that says how many are missing, then what follows.
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
_LOOK_S = 0.05  # how often a reader that has stopped is looked at
_LAST_WORDS_S = 1.0  # at the end of the process somebody who reads gets what waits; nobody is waited for longer


class LineSink:
    """Writes one line per call, from any thread; a log that cannot be written must not stop a delivery."""

    def __init__(self, file: BinaryIO) -> None:
        self.lost = 0  # lines nobody will see: dropped, or the disk is full, or the reader is gone
        self.told_dropped: Callable[[int], object] = lambda count: None  # writes the line that says so
        self._write = _writer(file)
        self._lock = threading.RLock()  # the line about dropped lines is written while a line is
        self._waiting = bytearray()
        self._dropped = 0  # not told yet
        self._flowing = threading.Event()  # nothing waits
        self._flowing.set()

    def msg(self, line: bytes) -> None:
        """Write ``line`` now, or as soon as the reader goes on, or count it as lost."""
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
            self.lost += data.count(b"\n")  # there is no other place to tell it; the count is what a debugger finds
            return b""

    def _stall(self, left: bytes | bytearray) -> None:
        self._waiting += left
        self._flowing.clear()
        try:
            threading.Thread(target=self._go_on, name="log", daemon=True).start()
        except RuntimeError:  # no thread can be had: the next line tries again
            self._waiting.clear()
            self._drop()
            self._flowing.set()
        atexit.unregister(self.close)
        atexit.register(self.close)

    def _drop(self) -> None:
        self.lost += 1
        self._dropped += 1

    def _go_on(self) -> None:
        """Write what waits as the reader takes it; ends when nothing waits. In a thread of its own."""
        pause = threading.Event()
        while not self._flowing.is_set():
            with self._lock:
                before = len(self._waiting)
                self._waiting = bytearray(self._put(self._waiting))
                moved = len(self._waiting) < before
                if not self._waiting:
                    dropped, self._dropped = self._dropped, 0
                    if dropped:
                        self.told_dropped(dropped)  # waits here, as the first line of what follows
                    if not self._waiting:
                        self._flowing.set()
            if not moved:
                pause.wait(_LOOK_S)


def _writer(file: BinaryIO) -> Callable[[bytes | bytearray], int]:
    """Return what writes to ``file`` without waiting: bytes taken, or ``BlockingIOError``."""
    try:
        descriptor = file.fileno()
        kind = os.fstat(descriptor).st_mode
    except (OSError, ValueError, AttributeError):  # not a file of the system's: it cannot block
        return lambda data: _write_out(file, data)
    if stat.S_ISSOCK(kind):  # the journal's, under systemd: such cannot be opened anew
        return lambda data: _write_if_ready(descriptor, data)
    if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
        return lambda data: _write_out(file, data)
    try:
        # Opened anew: O_NONBLOCK on what was handed down would hold for whoever else writes there, such as the shell.
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # not ours to open, or not Linux
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
    return os.write(descriptor, data[: select.PIPE_BUF])  # so much always fits in a pipe or socket that is ready
