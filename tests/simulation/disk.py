"""A disk under SQLite that fails on request, and that forgets what was not synced when the power goes.

SQLite's own layer for the operating system works on real files; ours stands in front of it and sees every write, sync
and truncation. Beside each file it keeps the *platter*: what a sync has made safe. What was written since is *pending*.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import apsw

SECTOR_BYTES = 512
Fault = Literal["write", "sync", "full"]
_NAME = "simulated"
_SIDE_FILES = ("-shm", ".lock")


class _File:
    """One file: the platter, and what is pending as (offset, bytes); an offset below 0 is a truncation to -offset-1."""

    __slots__ = ("pending", "platter")

    def __init__(self, content: bytes = b"") -> None:
        self.platter = bytearray(content)
        self.pending: list[tuple[int, bytes]] = []

    def sync(self, keeps: Callable[[], bool]) -> None:
        """Bring what is pending to the platter: all of it, or what ``keeps`` says where the sync fails.

        After a failed sync the pages count as clean (ATC'20): no later sync brings what is lost here.
        """
        for change in self.pending:
            if keeps():
                _apply(self.platter, change)
        self.pending.clear()

    def after_power_loss(self, rng: random.Random) -> bytes:
        """Return what may be left: each pending write wholly, in sectors or not at all, in any order."""
        left = bytearray(self.platter)
        pending = list(self.pending)
        if rng.random() < 0.5:
            rng.shuffle(pending)
        for offset, data in pending:
            fate = rng.random()
            if fate < 0.4:
                _apply(left, (offset, data))
            elif fate < 0.7 and offset >= 0:
                for start in range(0, len(data), SECTOR_BYTES):
                    if rng.random() < 0.5:
                        _apply(left, (offset + start, data[start : start + SECTOR_BYTES]))
        return bytes(left)


def _apply(content: bytearray, change: tuple[int, bytes]) -> None:
    offset, data = change
    if offset < 0:
        length = -offset - 1
        del content[length:]
        content.extend(bytes(length - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """The files below one directory, for one process at a time."""

    forgets_syncs = False  # a disk that lies

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.directory = directory
        self.off = False  # the process is gone: nothing reaches the disk any more
        self.operations = 0  # writes and syncs so far
        self.crash_at: int | None = None  # at this operation the process ends in the middle of it
        self.crashed: Callable[[], None] = lambda: None  # told of that
        self.faults: list[tuple[Fault, float]] = []  # with how likely each is, for as long as it stands here
        self.met = 0  # faults that hit something
        self._rng = rng
        self._files: dict[str, _File] = {}

    def file(self, path: str) -> _File:
        """Return what is kept of a file."""
        if path not in self._files:
            self._files[path] = _File()
        return self._files[path]

    def removed(self, path: str) -> None:
        """Forget a file."""
        self._files.pop(path, None)

    def image(self, target: Path, *, power: bool) -> None:
        """Write into ``target`` what the next start finds: all of it, or what a loss of ``power`` left."""
        target.mkdir()
        for path, file in self._files.items():
            if not path.endswith(_SIDE_FILES):
                content = file.after_power_loss(self._rng) if power else Path(path).read_bytes()
                (target / Path(path).name).write_bytes(content)

    def moved_to(self, directory: Path) -> "Disk":
        """Return a disk for the next process, whose files lie in ``directory``; all of them are on the platter."""
        next_disk = Disk(directory, self._rng)
        for path in directory.iterdir():
            next_disk._files[str(path)] = _File(path.read_bytes())
        return next_disk

    def before(self, fault: Fault) -> bool:
        """Count an operation; say whether it fails. Raises ``apsw.IOError`` once the process is gone."""
        if self.off:
            raise apsw.IOError("the process is gone")
        self.operations += 1
        if self.operations == self.crash_at:
            self.off = True
            self.crashed()
            return True
        likely = max((share for kind, share in self.faults if kind == fault), default=0.0)
        failed = likely > 0 and self._rng.random() < likely
        self.met += failed
        return failed


class SimulatedFile(apsw.VFSFile):
    """A file of ``SimulatedSystem``."""

    def __init__(self, disk: Disk, name: object, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._disk = disk
        self._path = path
        self._file = disk.file(path)

    def xWrite(self, data: bytes, offset: int) -> None:
        """Write; a failing one may have written its first half."""
        disk = self._disk
        fails = disk.before("write")
        full = not fails and bool(disk.faults) and disk.before("full")
        if fails or full:
            half = data[: len(data) // 2 // SECTOR_BYTES * SECTOR_BYTES]
            if half:
                super().xWrite(half, offset)
                self._file.pending.append((offset, half))
            if full:
                raise apsw.FullError("simulated: no room")
            raise apsw.IOError("simulated: a write fails")
        super().xWrite(data, offset)
        self._file.pending.append((offset, data))

    def xSync(self, flags: int) -> None:
        """Sync; of what a failing one was to make safe, any part may be lost for good."""
        disk = self._disk
        if disk.before("sync"):
            if not disk.off:
                self._file.sync(lambda: disk._rng.random() < 0.5)
            raise apsw.IOError("simulated: a sync fails")
        if not disk.forgets_syncs:
            self._file.sync(lambda: True)

    def xTruncate(self, newsize: int) -> None:
        """Truncate."""
        if self._disk.before("write"):
            raise apsw.IOError("simulated: a truncation fails")
        super().xTruncate(newsize)
        self._file.pending.append((-newsize - 1, b""))


class SimulatedSystem(apsw.VFS):
    """What SQLite asks for files, in this process, while it is in place. ``disk`` is that of the process running."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(_NAME, "unix", makedefault=True)
        self.disk = disk

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:
        """Open a file."""
        if self.disk.off:
            raise apsw.IOError("the process is gone")
        return SimulatedFile(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Delete a file."""
        if self.disk.before("write"):
            raise apsw.IOError("simulated: a deletion fails")
        super().xDelete(filename, syncdir)
        self.disk.removed(filename)
