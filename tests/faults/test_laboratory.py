"""Power cuts, kills and failing disks at any write: what the store promised before holds after it.

``make faults`` runs the long form: LAB=1 sweeps hundreds of cuts, kills and failures.
"""

import os
import random
import shutil
from pathlib import Path

import pytest
from tests.faults.laboratory.recording import Event, power_loss, record
from tests.faults.laboratory.verdict import broken_promises
from tests.installed import installed

_LONG = os.environ.get("LAB") == "1"
_CUTS = 600 if _LONG else 16
_PROCESSES = [0, 1, 2] if _LONG else [0, 1]  # ingest.processes
_KILLS = 200 if _LONG else 4
_FAILURES = 10 if _LONG else 1
_FAULTS = [
    "pwrite64:error=EIO:when={}",
    "pwrite64:error=ENOSPC:when={}..{}",
    "pwrite64:error=EROFS:when={}..{}",
    "fdatasync:error=EIO:when={}",
    "fdatasync:error=ENOSPC:when={}..{}",
    "fsync:error=EIO:when={}",
]
_ROUNDS = 25


@pytest.fixture(scope="module", params=_PROCESSES)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """One run without a fault, with every write: straight into the store, and by HTTP through acceptors."""
    installed("strace", package="strace")
    failed: list[str] = []
    for _ in range(4):  # posts are answered 503 where a commit takes seconds, as on a machine that is busy now
        directory = tmp_path_factory.mktemp("recorded") / "store"
        directory.mkdir()
        events, said, code = record(directory, [str(directory / "relay.db"), "1", str(_ROUNDS), str(request.param)])
        assert code == 0
        failed = [line for line in said if line.startswith("F")]
        if not failed:
            return events
    pytest.fail(f"in four runs without a fault posts failed: {failed}")


def _said_before(events: list[Event]) -> list[str]:
    return [line for event in events if event.kind == "said" for line in event.data.decode().splitlines()]


async def test_power_cuts_lose_nothing(recorded: list[Event], tmp_path: Path) -> None:
    """At every cut, with unsynced writes lost, torn and reordered: all that was said before holds."""
    chance = random.Random(7)
    promised = 0
    for number in range(_CUTS):
        cut = chance.randrange(len(recorded) // 10, len(recorded) + 1)
        image = tmp_path / str(number)
        power_loss(recorded, cut, chance, image)
        said = _said_before(recorded[:cut])
        promised += len(said)
        assert await broken_promises(image / "relay.db", said) == [], f"cut after {cut} of {len(recorded)} events"
        shutil.rmtree(image)
    assert promised > 100 * _CUTS


async def test_the_judge_notices_a_disk_that_lies(recorded: list[Event], tmp_path: Path) -> None:
    """Where no sync counts, promises are broken, and the judge says which."""
    chance = random.Random(7)
    found: list[str] = []
    for number in range(5):
        image = tmp_path / str(number)
        power_loss(recorded, len(recorded) * 3 // 4, chance, image, lying=True)
        if (image / "relay.db").exists():
            try:
                found += await broken_promises(image / "relay.db", _said_before(recorded[: len(recorded) * 3 // 4]))
            except Exception as error:
                found.append(str(error))
    assert found


@pytest.mark.parametrize("number", range(_KILLS))
async def test_killed_at_a_write(number: int, tmp_path: Path) -> None:
    """SIGKILL at the n-th write of the store: what was said before holds. Every second time acceptors take posts in."""
    installed("strace", package="strace")
    at = random.Random(number).randrange(40, 1500)
    await _faulted(tmp_path, f"pwrite64:signal=KILL:when={at}", number, ends=-9, processes=number % 2)


@pytest.mark.parametrize("fault", _FAULTS)
@pytest.mark.parametrize("number", range(_FAILURES))
async def test_a_disk_that_fails(fault: str, number: int, tmp_path: Path) -> None:
    """A write or sync fails, once or for a while: nothing that was acknowledged is lost; the store goes on or ends."""
    installed("strace", package="strace")
    among = {"pwrite64": (60, 900), "fdatasync": (12, 60), "fsync": (2, 6)}[fault.partition(":")[0]]
    first = random.Random(number).randrange(*among)
    await _faulted(tmp_path, fault.format(first, first + 6), number)


async def _faulted(tmp_path: Path, inject: str, seed: int, *, ends: int | None = None, processes: int = 0) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    words = [str(directory / "relay.db"), str(seed), str(_ROUNDS), str(processes)]
    _, said, code = record(directory, words, inject=inject)
    if ends is None and not inject.startswith("fsync"):  # SQLite goes on where a directory cannot be synced
        assert code != 0 or [line for line in said if line.startswith("F")], "the fault was not met"
    assert ends is None or code in (ends, 0, 128 - ends), code
    assert await broken_promises(directory / "relay.db", said) == [], (inject, code)
