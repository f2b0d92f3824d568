"""One run: the order center, the machine with the daemon on it, and the platforms, until everything has ended."""

import asyncio
import contextlib
import json
import random
from asyncio import Task
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from relay.core.model import Filter
from relay.delivery.terms import Terms
from relay.simulate.virtual import VirtualLoop
from relay.standin.bodies import digest
from relay.views.callback_view import ListedCallback
from tests.simulation.host import Life
from tests.simulation.machine import Machine, Process
from tests.simulation.plan import PLATFORMS, Plan, Trouble, configuration
from tests.simulation.platforms import Mood, PlayedConnection, PlayedPlatform
from tests.simulation.posting import Posting

_RESTART_S = 1.0  # systemd's RestartSec
_READ_EVERY_S = 3.0
_QUIET_S = 240.0  # after the last trouble everything has ended within so long
_ALERT_S = 25.0  # what is held is told within so long
_PAGE = 200


class World:
    """Everything of one run. What it leaves behind is read by ``judging``."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.plan = plan
        self.loop = loop
        self._rng = random.Random(f"world {plan.seed}")
        self.machine = Machine(loop, directory, random.Random(f"machine {plan.seed}"))
        self.config = configuration(plan.variant, directory / "now" / "relay.db")
        self.platforms = {
            name: PlayedPlatform(
                name,
                random.Random(f"{name} {plan.seed}"),
                tells_items=self.config.platforms[name].results is not None,
            )
            for name in PLATFORMS
        }
        self.posting = Posting(self._ask, random.Random(f"posts {plan.seed}"), names=PLATFORMS, keys=plan.keys)
        self.kills: list[float] = []
        self.ledgers: list[dict[str, Any]] = []
        self.stored: list[ListedCallback] = []
        self.digests: dict[str, str] = {}  # of stored callbacks whose id the order center does not know
        self.waiting: list[ListedCallback] = []  # what had not ended in time
        self.texts: dict[str, bytes] = {}  # what may hold no value of a payload
        self.commit_s = 0.01  # the slowest commit
        self.bugs: list[str] = []
        self.deaf: list[tuple[float, float]] = []  # while every write of the disk failed
        self._life: Life | None = None
        self._process: Process | None = None
        self._over = False
        self._calm_s = 0.0  # no fault of the disk after this
        loop.set_exception_handler(self._lost_error)

    async def run(self) -> None:
        """Run to the end."""
        with self.machine.in_place():
            daemon = asyncio.create_task(self._keep_running())
            posts = [
                asyncio.create_task(self._post_at(self._rng.uniform(0, self.plan.for_s)))
                for _ in range(self.plan.posts)
            ]
            troubles = [asyncio.create_task(self._cause(trouble)) for trouble in self.plan.troubles]
            reading = asyncio.create_task(self._read_ledger())
            try:
                await asyncio.gather(*troubles, *posts)
                await self._settle(daemon)
            finally:
                self._over = True
                for task in (reading, daemon, *troubles, *posts):
                    task.cancel()
                await asyncio.wait([reading, daemon])
                if self._process is not None:
                    self._process.end()

    async def _settle(self, daemon: asyncio.Task[None]) -> None:
        """Wait until nothing is pending but what waits for a person, then note what is stored."""
        began_s = self.loop.time()
        pending = -1
        while self.loop.time() < began_s + _QUIET_S:
            assert not daemon.done(), daemon.exception()
            ledger = await self._ledger()
            before, pending = pending, -1 if ledger is None else ledger["total"]["pending"]
            same = pending == before and pending >= 0
            if pending == 0 or (same and not self._waiting(await self._stored())):
                break
            await asyncio.sleep(10.0 if same else 1.0)
        if any(row.held for row in await self._stored()):
            await asyncio.sleep(_ALERT_S)
        self.stored = await self._stored()
        self.waiting = self._waiting(self.stored)
        assert self._life is not None
        known = {posted.id for rows in self.posting.posted.values() for posted in rows}
        for row in self.stored:
            if row.id not in known:
                view = await self._inside(partial(self._life.daemon.store.callback, row.id, payload=True))
                self.digests[row.id] = digest(view.payload)
        self._look_at_disk()
        self._life.supervisor.stop("the run is over")

    async def _stored(self) -> list[ListedCallback]:
        """Return everything the store holds."""
        life = self._life
        assert life is not None
        assert life.ready, "the daemon does not run at the end"
        stored: list[ListedCallback] = []
        cursor = None
        while True:
            page = partial(life.daemon.store.callbacks, Filter(), cursor=cursor, limit=_PAGE)
            found, cursor = await self._inside(page)
            stored += found
            if cursor is None:
                return stored

    def _inside(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Task[Any]:
        """Run ``work`` as code of the process that runs now."""
        assert self._process is not None
        return self.machine.inside(self._process, lambda: self.loop.create_task(work()))

    @staticmethod
    def _waiting(stored: list[ListedCallback]) -> list[ListedCallback]:
        """Return what is pending and neither held for a person nor behind something of its key that is."""
        held = {(row.platform, row.key) for row in stored if row.held}
        return [row for row in stored if row.state == "pending" and (row.platform, row.key) not in held]

    # The daemon

    async def _keep_running(self) -> None:
        while not self._over:
            process = self._process = self.machine.start()
            life = self._life = Life(self.config, partial(self._connect, process))
            process.at_end.append(partial(self._gone, life))
            process.disk.crashed = partial(self._crash_soon, process)
            running = self._inside(life.run)
            await asyncio.wait([running])
            if not process.alive or self._over:
                await asyncio.sleep(_RESTART_S)
                continue
            error = running.exception()
            if self.loop.time() > self._calm_s:
                self.bugs.append(f"the daemon ended by itself at {self.loop.time():.3f} s: {error!r}")
            self._crash(process, power=False)
            await asyncio.sleep(_RESTART_S)

    def _connect(self, process: Process, terms: Terms) -> PlayedConnection:
        return self.platforms[terms.platform].connect(lambda: process.alive)

    def _gone(self, life: Life) -> None:
        """Take down what a process had that the system takes down with it."""
        self.texts[f"log {len(self.kills)}"] = life.log.getvalue()
        self.texts[f"metrics {len(self.kills)}"] = life.metrics.render()
        life.ready = False
        store = getattr(getattr(life, "daemon", None), "store", None)
        if store is not None:
            store._lock.release()

    def _crash_soon(self, process: Process) -> None:
        self.loop.call_soon(self._crash, process, self._power_next)

    def _crash(self, process: Process, power: bool) -> None:
        if not process.alive or process is not self._process:
            return
        self.kills.append(self.loop.time())
        self._look_at_disk()
        self.machine.crash(process, power=power)

    def _look_at_disk(self) -> None:
        """Search the files of a sealed store for what must not be there."""
        if self.config.privacy.encrypt is None:
            return
        for path in sorted(self.machine.disk.directory.iterdir()):
            if path.suffix != ".lock":
                self.texts[f"{path.name} {len(self.kills)}"] = path.read_bytes()

    # What goes wrong

    _power_next = False

    async def _cause(self, trouble: Trouble) -> None:
        await asyncio.sleep(trouble.start_s)
        machine, disk = self.machine, self.machine.disk
        match trouble.kind:
            case "platform":
                self.platforms[trouble.about].mood = Mood(dict(trouble.fates))
                await asyncio.sleep(trouble.for_s)
                self.platforms[trouble.about].mood = Mood()
            case "disk":
                self._calm_s = max(self._calm_s, self.loop.time() + trouble.for_s + 5.0)
                self.commit_s = max(self.commit_s, trouble.for_s)
                began_s = self.loop.time()
                fault: tuple[Any, float] = (trouble.about, trouble.much)
                disk.faults.append(fault)
                await asyncio.sleep(trouble.for_s)
                disk.faults.remove(fault)
                if trouble.much == 1.0 and machine.disk is disk:
                    self.deaf.append((began_s, self.loop.time()))
            case "slow":
                usual = machine.commit_s
                machine.commit_s = lambda: trouble.much
                self.commit_s = max(self.commit_s, trouble.much)
                await asyncio.sleep(trouble.for_s)
                machine.commit_s = usual
            case "step":
                machine.clocks.step(trouble.much)
            case "pause":
                await self._told(trouble.about, "pause")
                await asyncio.sleep(trouble.for_s)
                await self._told(trouble.about, "resume")
            case "crash" | "power":
                if self._process is not None:
                    self._crash(self._process, trouble.kind == "power")
            case _:
                self._power_next = trouble.kind == "write-power"
                disk.crash_at = disk.operations + int(trouble.much)

    async def _told(self, platform: str, what: str) -> None:
        """Let an operator pause or resume a platform, however often that takes."""
        while True:
            response = await self._ask("admin", "POST", f"/v1/platforms/{platform}/{what}", {}, b'{"reason":"played"}')
            if response is not None and response.status < 500:
                assert response.status == 200, response.body
                return
            await asyncio.sleep(1.0)

    # The order center and whoever reads

    async def _post_at(self, at_s: float) -> None:
        await asyncio.sleep(at_s)
        await self.posting.post(lambda: self.plan.for_s + _QUIET_S / 2)

    async def _ask(self, listener: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        life, process = self._life, self._process
        if life is None or process is None or not life.ready or not process.alive:
            return None
        request = self._inside(partial(life.ask, listener, method, path, headers, body))
        try:
            await asyncio.wait([request])
        finally:
            request.cancel()
        return None if request.cancelled() else request.result()

    async def _ledger(self) -> dict[str, Any] | None:
        response = await self._ask("admin", "GET", "/v1/ledger", {}, b"")
        if response is None or response.status != 200:
            return None
        reading: dict[str, Any] = json.loads(response.body)
        self.ledgers.append(reading)
        return reading

    async def _read_ledger(self) -> None:
        while True:
            await asyncio.sleep(_READ_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READ_EVERY_S):
                    await self._ledger()

    def _lost_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        owner = None if task is None else self.machine.owners.get(task)
        if self._over or (owner is not None and not owner.alive):
            return  # what a process that is gone never heard of
        error = context.get("exception")
        self.bugs.append(f"lost at {self.loop.time():.3f} s: {context.get('message')}: {error!r}")
