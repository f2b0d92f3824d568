"""Files of comparisons that stand whole or not at all, for their owner alone; also after a power failure."""

import os
from pathlib import Path

_PART = ".new"


def part_of(file: Path) -> Path:
    """Return where a file is written until it is whole."""
    return file.with_name(file.name + _PART)


def private(path: str, flags: int) -> int:
    """Open a file that its owner alone may read; an ``opener``."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def put_in_place(file: Path) -> None:
    """Let what was written at ``part_of(file)`` take its name, once it is on the disk."""
    descriptor = os.open(part_of(file), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(part_of(file), file)


def write_whole(file: Path, body: bytes) -> None:
    """Write a file, or put another one in its place."""
    with open(part_of(file), "wb", opener=private) as into:
        into.write(body)
    put_in_place(file)
