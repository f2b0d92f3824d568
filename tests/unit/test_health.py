"""Readiness: one commit for many probes, an answer while the disk hangs, and what a failure is called."""

import asyncio
from typing import Any

import pytest
from relay.core.errors import StoreFailed
from relay.web import health
from relay.web.health import Health
from relay.web.refusal import Refusal

ANYTHING: Any = None


class Disk:
    """What a probe commits to."""

    def __init__(self) -> None:
        self.commits = 0
        self.fault: Exception | None = None
        self.moves = asyncio.Event()
        self.moves.set()

    async def ping(self) -> None:
        self.commits += 1
        await self.moves.wait()
        if self.fault is not None:
            raise self.fault


async def state(probed: Health) -> str:
    """Return what readyz says: ok, or the code of its problem with the detail."""
    try:
        await probed.readyz(ANYTHING, {})
    except Refusal as refusal:
        return f"{refusal.code}: {refusal.detail}"
    return "ok"


async def test_many_probes_share_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within half a second the last result is good enough; after it the disk is asked again."""
    now = [100.0]
    monkeypatch.setattr(health, "elapsed_s", lambda: now[0])
    disk = Disk()
    probed = Health(ping=disk.ping)
    assert [await state(probed) for _ in range(10)] == ["ok"] * 10
    assert disk.commits == 1
    now[0] += 0.6
    disk.fault = StoreFailed("disk gone")
    assert await state(probed) == "store_failed: disk gone"
    now[0] += 0.6
    disk.fault = None
    assert await state(probed) == "ok"
    assert disk.commits == 3


async def test_a_hanging_disk_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe waits a bounded time; others meanwhile wait for the same commit; when it moves again all is well."""
    monkeypatch.setattr(health, "_BOUND_S", 0.02)
    monkeypatch.setattr(health, "_FRESH_S", 0.0)
    disk = Disk()
    disk.moves.clear()
    probed = Health(ping=disk.ping)
    async with asyncio.timeout(20):
        told = await asyncio.gather(state(probed), state(probed), state(probed))
    assert {each.partition(":")[0] for each in told} == {"store_failed"}
    assert disk.commits == 1
    disk.moves.set()
    async with asyncio.timeout(20):
        while await state(probed) != "ok":
            await asyncio.sleep(0)


async def test_a_bug_in_the_check_quotes_nothing() -> None:
    """Its name is told, not its message, which could hold anything."""
    disk = Disk()
    disk.fault = ValueError("13812345678")
    told = await state(Health(ping=disk.ping))
    assert told == "store_failed: the check itself failed with ValueError"


async def test_stopping_comes_before_everything() -> None:
    """A relay on its way out sends nobody to itself, and asks no disk for it."""
    disk = Disk()
    probed = Health(ping=disk.ping)
    probed.stopping = True
    assert (await state(probed)).startswith("stopping")
    assert disk.commits == 0
    assert (await probed.livez(ANYTHING, {})).status == 200
