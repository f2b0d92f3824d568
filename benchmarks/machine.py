"""What the figures were measured on: CPUs, Python, file system, load tool."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_MEMORY = ("tmpfs", "ramfs")


def filesystem(directory: Path) -> str:
    """Return the type of the file system that ``directory`` lies on."""
    directory = directory.resolve()
    mounts = [row.split()[1:3] for row in Path("/proc/mounts").read_text().splitlines()]
    over = [(point, kind) for point, kind in mounts if directory.is_relative_to(point)]
    return max(over, key=lambda mount: len(mount[0]))[1] if over else "unknown"


@contextmanager
def workplace(wanted: Path | None) -> Iterator[Path]:
    """A fresh directory on a real disk: in ``wanted``, else the temporary directory, else beside this file."""
    parents = [wanted] if wanted else [Path(tempfile.gettempdir()), Path(__file__).parent]
    parent = next((place for place in parents if filesystem(place) not in _IN_MEMORY), parents[-1])
    with tempfile.TemporaryDirectory(prefix="relay-benchmarks-", dir=parent) as name:
        yield Path(name)


def cpus() -> tuple[int | None, int | None]:
    """Return one CPU for the relay and one for everything else, or None twice on a machine with one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def describe(directory: Path) -> dict[str, str | int | float]:
    """Return the facts that figures depend on."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": next(
            (row.partition(":")[2].strip() for row in _cpuinfo() if row.startswith("model name")), platform.machine()
        ),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "filesystem": filesystem(directory),
        "wrk": "yes" if shutil.which("wrk") else "no",
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()
