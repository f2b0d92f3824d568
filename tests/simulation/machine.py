"""The machine that the daemon runs on: its clocks, its disk, and what happens when a process on it ends."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import apsw
import relay.core.clock
import relay.daemon.app
import relay.store.sqlite.file.boot
import relay.store.sqlite.thread.writer
from relay.simulate.virtual import VirtualLoop
from tests.simulation.disk import Disk, SimulatedSystem
from tests.simulation.lockstep import LockstepQueue, LockstepThread

_WALL_S = 1_764_400_000.0
_UP_S = 5_000.0  # the machine has been up for so long when the world begins


class Clocks:
    """Boot time, wall time and the boot's id, as ``relay.core.clock`` asks for them; all follow the virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._up_since_s = -_UP_S
        self._wall_ahead_s = _WALL_S
        self._boots = 1

    def boottime_s(self) -> float:
        """Seconds since the machine booted."""
        return self._loop.time() - self._up_since_s

    def wall_s(self) -> float:
        """What the wall clock shows."""
        return self._loop.time() + self._wall_ahead_s

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self._wall_ahead_s += seconds

    def reboot(self) -> None:
        """Begin another boot."""
        self._boots += 1
        self._up_since_s = self._loop.time() - 10.0

    def hold_back(self) -> None:
        """Let the wall clock be right or behind: one that is years ahead at boot rightly expires what waits."""
        self._wall_ahead_s = min(self._wall_ahead_s, _WALL_S)

    def boot_id(self) -> str:
        """Return the id of this boot."""
        return f"boot-{self._boots}"

    def as_time(self) -> SimpleNamespace:
        """Return what stands in for the module ``time`` in ``relay.core.clock``."""
        return SimpleNamespace(
            CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
            clock_gettime=lambda _which: self.boottime_s(),
            time=self.wall_s,
            perf_counter=self._loop.time,
            monotonic=self._loop.time,
        )


class Process:
    """One life of the daemon: what ran in it ends with it, and does nothing to the world any more."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.alive = True
        self.writers: list[LockstepQueue] = []
        self.connections: list[apsw.Connection] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in their order, which a set has not
        self.at_end: list[Callable[[], None]] = []

    def end(self) -> None:
        """End it as SIGKILL does."""
        self.alive = False
        self.disk.off = True
        for writer in self.writers:
            writer.end()
        for task in list(self.tasks):
            task.cancel()
        for connection in self.connections:
            with suppress(apsw.Error):  # what it would copy back is refused by the disk
                connection.close(True)
        for follow in self.at_end:
            follow()


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Machine:
    """Holds the disk in a directory, and the one process at a time that works on it."""

    def __init__(self, loop: VirtualLoop, directory: Path, rng: random.Random) -> None:
        self.clocks = Clocks(loop)
        self.path = directory / "now"  # always names the files of the process running
        self.commit_s: Callable[[], float] = lambda: rng.uniform(0.001, 0.005)
        self._directory = directory
        self._rng = rng
        self._starts = 0
        self._met_before = 0
        first = directory / "disk-0"
        first.mkdir(parents=True)
        self._point_to(first)
        self.disk = Disk(first, rng)
        self._loop = loop
        self.owners: WeakKeyDictionary[asyncio.Future[Any], Process] = WeakKeyDictionary()
        loop.set_task_factory(self._task)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the relay's code see this machine: its clocks, its disk, threads in step and chance from the seed."""
        rng = self._rng
        writer = relay.store.sqlite.thread.writer
        chance = SimpleNamespace(randbits=rng.getrandbits, token_bytes=rng.randbytes)
        self._system = SimulatedSystem(self.disk)
        with ExitStack() as stack:
            stack.callback(self._system.unregister)
            apsw.connection_hooks.append(_note_connection)
            stack.callback(apsw.connection_hooks.remove, _note_connection)
            for module, name, value in (
                (relay.core.clock, "time", self.clocks.as_time()),
                (relay.core.clock, "boot_id", self.clocks.boot_id),
                (relay.store.sqlite.file.boot, "secrets", chance),
                (relay.daemon.app, "random", SimpleNamespace(Random=lambda: random.Random(rng.random()))),
                (writer, "SimpleQueue", self._queue),
                (writer, "threading", SimpleNamespace(Thread=self._thread)),
                (writer, "HandOver", _NoHandOver),
            ):
                stack.enter_context(patch.object(module, name, value))
            yield

    @property
    def met(self) -> int:
        """How many faults of the disk hit something."""
        return self._met_before + self.disk.met

    def start(self) -> Process:
        """Return a new process; run its code with ``inside``."""
        self.clocks.hold_back()
        return Process(self.disk)

    def inside(self, process: Process, work: Callable[[], Any]) -> Any:
        """Call ``work`` as code of ``process``: what it starts belongs to it."""
        token = _PROCESS.set(process)
        try:
            return work()
        finally:
            _PROCESS.reset(token)

    def crash(self, process: Process, *, power: bool) -> None:
        """End the process; with ``power`` the machine as well, so that what was not synced may be lost."""
        process.end()
        self._starts += 1
        self._met_before += self.disk.met
        after = self._directory / f"disk-{self._starts}"
        self.disk.image(after, power=power)
        self.disk = self.disk.moved_to(after)
        self._system.disk = self.disk
        self._point_to(after)
        if power:
            self.clocks.reboot()

    def _point_to(self, directory: Path) -> None:
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(directory)

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        process = _PROCESS.get()
        if process is not None:
            process.tasks[task] = None
            self.owners[task] = process
            task.add_done_callback(lambda done: process.tasks.pop(done, None))
            if not process.alive:
                task.cancel()
        return task

    def _thread(self, **options: Any) -> LockstepThread:
        process = _PROCESS.get()
        assert process is not None
        thread = LockstepThread(**options)
        process.writers[-1].thread = thread
        return thread

    def _queue(self) -> LockstepQueue:
        process = _PROCESS.get()
        assert process is not None
        queue = LockstepQueue(lambda: self.commit_s())
        process.writers.append(queue)
        return queue


def _note_connection(connection: apsw.Connection) -> None:
    process = _PROCESS.get()
    if process is not None:
        process.connections.append(connection)


class _NoHandOver:
    """Stands in for what gives a real thread its turn: in step, the thread has it."""

    def __init__(self, _loop: asyncio.AbstractEventLoop) -> None:
        pass

    def sent(self, count: int) -> None:
        """Do nothing."""

    def finished(self, count: int) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""
