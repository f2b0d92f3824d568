"""Starts the acceptors, starts another where one ends, gives them each new configuration, and stops them.

While at least one takes posts, the daemon's own listeners rest: the sockets are the same, and the daemon is busy
writing. Until the first is ready, and while there is none, the daemon takes connections itself. So an acceptor that
ends costs the requests that it had under way, whose clients are cut off, and nothing else. One that does not answer
for two seconds counts as none, and after ten it is ended.

An example of one that ends again and again: it is started after 0.2 s, 0.4 s, 0.8 s and so on, 10 s at most. From the
third time on ``/readyz`` says so, until one has lived for a minute.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.config.schema.file import Config
from relay.core.clock import elapsed_s
from relay.daemon.acceptors.near_end import NearEnd
from relay.daemon.acceptors.shared_room import new_room
from relay.daemon.acceptors.starter import Started, Starter
from relay.daemon.acceptors.template import Forked
from relay.ingest.server import IngestServer
from relay.store.base import Inbox
from relay.telemetry.events import Events

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0
_WELL_S = 60.0  # one that lived so long was well: the next is started soon
_TOLD_FROM: Final = 3  # ends in a row: one may be an accident
_FOLLOW_S = 10.0  # reading a configuration takes tens of milliseconds; who takes longer is ended, and started anew
_LATER_S = 2.0  # after the grace at a stop
_LOOK_EVERY_S = 1.0  # whether one works
_SILENT: Final = 2  # looks that it left unanswered: the daemon takes connections itself
_LOST: Final = 10  # it is ended


@dataclass(slots=True, eq=False)
class _Place:
    """One of the acceptors, and those that ran in its place before."""

    number: int  # in the room; the daemon is 0
    near: NearEnd | None = None  # while one runs
    started: Started | None = None
    began_s: float = 0.0
    ready: bool = False
    silent: bool = False
    failed: int = 0  # ends in a row without having been well
    code: int = 0  # of the last end
    why: str = ""  # none could be started

    @property
    def takes_posts(self) -> bool:
        return self.ready and not self.silent

    @property
    def lacks(self) -> bool:
        """Whether somebody should look at it."""
        well = self.ready and elapsed_s() - self.began_s > _WELL_S
        return self.silent or (self.failed >= _TOLD_FROM and not well)


class Acceptors:
    """All of them. ``run`` is a root task."""

    def __init__(self, *, config: Config, template: Forked | None, inbox: Inbox, events: Events) -> None:
        """``template`` was forked from this process; None: one is started."""
        count = config.ingest.processes
        self.room = new_room(count)
        self._config = config
        self._starter = Starter(template)
        self._inbox = inbox
        self._events = events
        self._servers: Sequence[IngestServer] = ()
        self._state: Callable[[str], Awaitable[str | None]]
        self._expiring: Callable[[float], None]
        self._places = [_Place(number + 1) for number in range(count)]
        self._stopping = False

    async def run(
        self,
        servers: Sequence[IngestServer],
        *,
        state: Callable[[str], Awaitable[str | None]],
        expiring: Callable[[float], None],
    ) -> None:
        """Keep as many as the configuration says running, until cancelled.

        ``servers`` listen already, in the order of ``ingest.listen``. ``state`` returns the state of a callback,
        ``expiring`` is called after a commit with the seconds until the first of its callbacks expires.
        """
        self._servers, self._state, self._expiring = servers, state, expiring
        async with asyncio.TaskGroup() as group:
            for place in self._places:
                group.create_task(self._keep(place))

    def lacking(self) -> str:
        """Say what is not well with them; empty if all is."""
        lacking = [place for place in self._places if place.lacks]
        if not lacking:
            return ""
        worst = max(lacking, key=lambda place: (place.silent, place.failed))
        ended = f"one ended {worst.failed} times in a row, with code {worst.code}"
        why = "one does not answer" if worst.silent else worst.why or ended
        takes = sum(place.takes_posts for place in self._places)
        return (
            f"acceptors_lacking: {takes} of {len(self._places)} acceptors take posts in, the daemon does the rest; "
            f"{why}; see acceptor_ended in the log; ingest.processes: 0 does without them"
        )

    async def follow(self, config: Config, _grace_s: float) -> None:
        """Put ``config`` in force in all of them; return when it is. One that does not follow is ended."""
        self._config = config
        running = [(place.near, place.started) for place in self._places if place.near is not None]
        for near, _ in running:
            near.send()
        for near, started in running:
            assert started is not None
            following = asyncio.ensure_future(near.in_force())
            await asyncio.wait((following, started.ended), timeout=_FOLLOW_S, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                started.kill()

    async def stop(self, grace_s: float) -> None:
        """Have them finish what is under way within ``grace_s``, and end them."""
        self._stopping = True
        for place in self._places:
            if place.near is not None:
                place.near.stop(grace_s)
        running = [place.started for place in self._places if place.started is not None]
        if running:
            await asyncio.wait([started.ended for started in running], timeout=grace_s + _LATER_S)
        for started in running:
            started.kill()
        await self._starter.close()

    async def _keep(self, place: _Place) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._stopping:
            place.began_s = elapsed_s()
            pid = 0
            try:
                started = await self._start(place)
            except OSError as error:  # no memory or no process left for it: the daemon does without, and tries again
                place.code, place.why = error.errno or 0, f"none can be started: {error.strerror or error}"
            else:
                place.why = ""
                pid = started.pid
                while not started.ended.done():
                    await asyncio.wait((started.ended,), timeout=_LOOK_EVERY_S)
                    self._look(place, started)
                place.code = started.ended.result()
            was_ready = place.ready
            self._leave(place)
            if self._stopping:
                break
            well = was_ready and elapsed_s() - place.began_s > _WELL_S
            place.failed = 0 if well else place.failed + 1
            wait_s = _FIRST_WAIT_S if well else min(wait_s * 2, _LONGEST_WAIT_S)
            self._events.acceptor_ended(pid=pid, code=place.code, was_ready=was_ready, wait_s=wait_s)
            await asyncio.sleep(wait_s)
        await asyncio.Event().wait()  # a root task ends by being cancelled

    def _look(self, place: _Place, started: Started) -> None:
        """See whether it answers; where it does not, do without it."""
        if started.ended.done() or place.near is None:
            return
        unanswered = place.near.look()
        was_silent, place.silent = place.silent, unanswered >= _SILENT
        if place.silent != was_silent:
            self._events.acceptor_silent(pid=started.pid, silent=place.silent)
            self._rest()
        if unanswered >= _LOST:
            started.kill()

    def _leave(self, place: _Place) -> None:
        """Note that the acceptor of a place has ended, or could not start."""
        if place.near is not None:
            place.near.close()
        place.near, place.started, place.ready, place.silent = None, None, False, False
        self.room.clear(place.number)
        if not self._stopping:
            self._rest()

    async def _start(self, place: _Place) -> Started:
        stream, its_stream = socket.socketpair()
        moving, its_moving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptors = [its_stream.fileno(), its_moving.fileno(), self.room.descriptor]
        try:
            started = await self._starter.start(place.number, len(self._places) + 1, descriptors)
        except BaseException:  # a cancellation too
            stream.close()
            moving.close()
            raise
        finally:
            its_stream.close()
            its_moving.close()
        place.started = started
        place.near = NearEnd(
            inbox=self._inbox,
            watch=self._servers[0].watch,
            state=self._state,
            take=self._take,
            events=self._events,
            expiring=self._expiring,
            ready=lambda: self._is_ready(place, started),
            config=lambda: self._config,
            listeners=[server.listener.sockets for server in self._servers],
        )
        await place.near.open(stream, moving)
        return started

    def _is_ready(self, place: _Place, started: Started) -> None:
        if place.started is started and not place.ready:
            place.ready = True
            self._events.acceptor_started(pid=started.pid)
            self._rest()

    def _rest(self) -> None:
        resting = any(place.takes_posts for place in self._places)
        for server in self._servers:
            server.listener.rest(resting)

    def _take(self, place: int, client: socket.socket, data: bytes) -> None:
        self._servers[place].listener.take(client, data)
