"""Starts the acceptors, starts another where one ends, gives them each new configuration, and stops them.

While at least one takes posts, the daemon's own listeners rest: the sockets are the same, and the daemon is busy
writing. Until the first is ready, and while there is none, the daemon takes connections itself. So an acceptor that
ends costs the requests that it had under way, whose clients are cut off, and nothing else.
"""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from relay.config.schema.file import Config
from relay.core.clock import elapsed_s
from relay.daemon.acceptors.near_end import NearEnd
from relay.ingest.server import IngestServer
from relay.store.base import Inbox
from relay.telemetry.events import Events

_MODULE: Final = "relay.daemon.acceptors.child"
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0
_WELL_S = 60.0  # one that lived so long was well: the next is started soon
_FOLLOW_S = 10.0  # reading a configuration takes tens of milliseconds; who takes longer is ended, and started anew
_LATER_S = 2.0  # after the grace at a stop
# As in the unit of the daemon: freed bodies go back to the system. In a flood it is 118 MB in place of 339.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "131072"}
_NOT_THEIRS = ("LISTEN_", "NOTIFY_", "WATCHDOG_")  # what systemd says to the daemon


class Acceptors:
    """All of them. ``run`` is a root task."""

    def __init__(
        self,
        *,
        config: Config,
        servers: Sequence[IngestServer],
        inbox: Inbox,
        state: Callable[[str], Awaitable[str | None]],
        events: Events,
        expiring: Callable[[float], None],
    ) -> None:
        """``servers`` listen already, in the order of ``ingest.listen``."""
        self._config = config
        self._servers = servers
        self._inbox = inbox
        self._state = state
        self._events = events
        self._expiring = expiring
        self._running: dict[NearEnd, Process] = {}
        self._ready: set[NearEnd] = set()
        self._stopping = False

    async def run(self) -> None:
        """Keep as many as the configuration says running, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._config.ingest.processes):
                group.create_task(self._keep())

    async def follow(self, config: Config, _grace_s: float) -> None:
        """Put ``config`` in force in all of them; return when it is. One that does not follow is ended."""
        self._config = config
        for near in self._running:
            near.send()
        for near, process in list(self._running.items()):
            try:
                async with asyncio.timeout(_FOLLOW_S):
                    await near.in_force()
            except TimeoutError:
                _kill(process)

    async def stop(self, grace_s: float) -> None:
        """Have them finish what is under way within ``grace_s``, and end them."""
        self._stopping = True
        for near in self._running:
            near.stop(grace_s)
        try:
            async with asyncio.timeout(grace_s + _LATER_S):
                await asyncio.gather(*(process.wait() for process in list(self._running.values())))
        except TimeoutError:
            for process in self._running.values():
                _kill(process)

    async def _keep(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._stopping:
            began_s = elapsed_s()
            try:
                near, process = await self._start()
            except OSError as error:  # no memory or no process left for it: the daemon does without, and tries again
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
                self._events.acceptor_ended(pid=0, code=error.errno or 0, was_ready=False, wait_s=wait_s)
                await asyncio.sleep(wait_s)
                continue
            code = await process.wait()
            was_ready = near in self._ready
            self._ready.discard(near)
            del self._running[near]
            near.close()
            if self._stopping:
                break
            self._rest()
            wait_s = _FIRST_WAIT_S if elapsed_s() - began_s > _WELL_S else min(wait_s * 2, _LONGEST_WAIT_S)
            self._events.acceptor_ended(pid=process.pid, code=code, was_ready=was_ready, wait_s=wait_s)
            await asyncio.sleep(wait_s)
        await asyncio.Event().wait()  # a root task ends by being cancelled

    async def _start(self) -> tuple[NearEnd, Process]:
        stream, its_stream = socket.socketpair()
        moving, its_moving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = await self._spawn(its_stream, its_moving)
        except OSError:
            stream.close()
            moving.close()
            raise
        finally:
            its_stream.close()
            its_moving.close()
        near = NearEnd(
            inbox=self._inbox,
            state=self._state,
            take=self._take,
            events=self._events,
            expiring=self._expiring,
            ready=lambda: self._is_ready(near, process),
            config=lambda: self._config,
            listeners=[server.listener.sockets for server in self._servers],
        )
        self._running[near] = process
        await near.open(stream, moving)
        return near, process

    async def _spawn(self, stream: socket.socket, moving: socket.socket) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _MODULE, str(stream.fileno()), str(moving.fileno())),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            pass_fds=[stream.fileno(), moving.fileno()],
            env=_MEMORY | {name: value for name, value in os.environ.items() if not name.startswith(_NOT_THEIRS)},
        )

    def _is_ready(self, near: NearEnd, process: Process) -> None:
        if near not in self._ready:
            self._ready.add(near)
            self._events.acceptor_started(pid=process.pid)
            self._rest()

    def _rest(self) -> None:
        for server in self._servers:
            server.listener.rest(bool(self._ready))

    def _take(self, place: int, client: socket.socket, data: bytes) -> None:
        self._servers[place].listener.take(client, data)


def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
