"""The daemon's end of the channel to the template: has acceptors started, and learns with which code they end.

That they end the daemon sees by itself, and it kills them by itself: a template that stands still holds up nobody.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from relay.daemon.acceptors import template as template_module
from relay.daemon.acceptors.template import Forked

_MODULE: Final = "relay.daemon.acceptors.template"
_MESSAGE_BYTES: Final = 64
_ANSWER_S: Final = 30.0  # a template that is started anew imports for a second or two
_CODE_S: Final = 0.5  # after the end of an acceptor until the template has told its code
_END_S: Final = 1.0
_NOT_ITS = ("LISTEN_", "NOTIFY_", "WATCHDOG_")  # what systemd says to the daemon


def _code_now() -> tuple[int, int]:
    """Tell one code of this module from another: an upgrade writes the file anew."""
    about = os.stat(template_module.__file__)
    return about.st_ino, about.st_mtime_ns


_CODE_HERE: Final = _code_now()


class Started:
    """An acceptor that was started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()  # its exit code
        self._pidfd = -1
        with suppress(ProcessLookupError):  # it has ended, and the template says so
            self._pidfd = os.pidfd_open(pid)
            self._loop.add_reader(self._pidfd, self._ends)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def end(self, code: int) -> None:
        """Note its exit code."""
        if not self.ended.done():
            self.ended.set_result(code)

    def _ends(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        # Its parent is the template. Where that has ended and this is process 1, it is ours.
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        self._loop.call_later(_CODE_S, self.end, -signal.SIGKILL)


class Starter:
    """Asks the template; starts another where there is none."""

    def __init__(self, template: Forked | None) -> None:
        """``template`` was forked from this process; None: one is started when the first acceptor is."""
        self._forked = template
        self._channel: socket.socket | None = None
        self._process: Process | None = None  # of a template that was started here
        self._opening = asyncio.Lock()  # two places that start at once share one template
        self._asked: deque[asyncio.Future[Started]] = deque()
        self._running: dict[int, Started] = {}

    async def start(self, place: int, places: int, descriptors: Sequence[int]) -> Started:
        """Start an acceptor with these descriptors. Raises ``OSError`` if that is not possible now.

        A template that does not answer is ended, and its acceptors with it.
        """
        async with self._opening:
            if self._channel is None:
                self._use(await self._another())
        channel = self._channel
        assert channel is not None
        answer: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        socket.send_fds(channel, [b"+%d %d" % (place, places)], descriptors)
        self._asked.append(answer)
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await answer
        except TimeoutError:
            self._end_template()
            raise OSError(errno.ETIMEDOUT, "the template of acceptors does not answer, and is ended") from None

    async def close(self) -> None:
        """Let the template end; one that does not is ended."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        asyncio.get_running_loop().remove_reader(channel)
        channel.close()
        if self._process is not None:
            try:
                async with asyncio.timeout(_END_S):
                    await self._process.wait()
            except TimeoutError:
                self._end_template()
                await self._process.wait()

    def _end_template(self) -> None:
        with suppress(ProcessLookupError):
            if self._forked is not None:
                os.kill(self._forked.pid, signal.SIGKILL)
            elif self._process is not None:
                self._process.kill()

    async def _another(self) -> socket.socket:
        if self._forked is not None:
            return self._forked.channel
        if _code_now() != _CODE_HERE:
            raise OSError(errno.ESTALE, "the relay was replaced on the disk since this daemon started: restart it")
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _MODULE, str(its.fileno())),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=DEVNULL,
                pass_fds=[its.fileno()],
                env={name: value for name, value in os.environ.items() if not name.startswith(_NOT_ITS)},
            )
        except OSError:
            ours.close()
            raise
        finally:
            its.close()
        return ours

    def _use(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        asyncio.get_running_loop().add_reader(channel, self._comes)

    def _comes(self) -> None:
        assert self._channel is not None
        while True:
            try:
                said = self._channel.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                self._gone()
                return
            self._told(said[:1], said[1:].split())

    def _told(self, word: bytes, values: Sequence[bytes]) -> None:
        if word == b"=":
            if (ended := self._running.pop(int(values[0]), None)) is not None:
                ended.end(int(values[1]))
        elif word == b"!":
            self._refuse(OSError(int(values[0]), "no acceptor can be started"))
        else:
            self._started(int(values[0]))

    def _started(self, pid: int) -> None:
        """Take note of an acceptor. One that nobody speaks to ends by itself."""
        try:
            started = self._running[pid] = Started(pid)
        except OSError as error:  # no descriptor is left here to watch it by
            self._refuse(error)
            return
        answer = self._asked.popleft()
        if not answer.cancelled():
            answer.set_result(started)

    def _refuse(self, error: OSError) -> None:
        answer = self._asked.popleft()
        if not answer.cancelled():
            answer.set_exception(error)

    def _gone(self) -> None:
        """Note that the template has ended, and all acceptors with it."""
        assert self._channel is not None
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        self._channel = None
        if self._forked is not None:
            os.waitpid(self._forked.pid, 0)  # its end of the channel is closed, so it is ending: this takes no time
            self._forked = None
        for started in self._running.values():
            started.end(-signal.SIGKILL)
        self._running.clear()
        while self._asked:
            self._refuse(OSError(0, "the template of acceptors has ended"))
