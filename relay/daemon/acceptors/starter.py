"""The daemon's end of the channel to the template: has acceptors started and killed, and learns when they end."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from relay.daemon.acceptors.template import Forked

_MODULE: Final = "relay.daemon.acceptors.template"
_MESSAGE_BYTES: Final = 64
_NOT_ITS = ("LISTEN_", "NOTIFY_", "WATCHDOG_")  # what systemd says to the daemon


class Started:
    """An acceptor that was started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()  # its exit code


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
        """Start an acceptor with these descriptors. Raises ``OSError`` if that is not possible now."""
        async with self._opening:
            if self._channel is None:
                self._use(await self._another())
        channel = self._channel
        assert channel is not None
        answer: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        socket.send_fds(channel, [b"+%d %d" % (place, places)], descriptors)
        self._asked.append(answer)
        return await answer

    def kill(self, started: Started) -> None:
        """End an acceptor at once, if it still runs."""
        if self._channel is not None and not started.ended.done():
            with suppress(OSError):  # the template has just ended, and the acceptor with it
                self._channel.send(b"-%d" % started.pid)

    async def close(self) -> None:
        """Let the template end."""
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            if self._process is not None:
                await self._process.wait()

    async def _another(self) -> socket.socket:
        if self._forked is not None:
            return self._forked.channel
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
            self._running.pop(int(values[0])).ended.set_result(int(values[1]))
        elif word == b"!":
            self._refuse(OSError(int(values[0]), "no acceptor can be started"))
        else:
            started = self._running[int(values[0])] = Started(int(values[0]))
            answer = self._asked.popleft()
            if not answer.cancelled():  # else nobody speaks to it, and it ends by itself
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
            started.ended.set_result(-signal.SIGKILL)
        self._running.clear()
        while self._asked:
            self._refuse(OSError(0, "the template of acceptors has ended"))
