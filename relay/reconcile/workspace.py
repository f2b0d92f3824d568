"""A run's private folder, what the runs of a platform hand on to each other, and that there is one at a time."""

import fcntl
import glob
import os
import shutil
import tempfile
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from relay.core.clock import wall_s
from relay.core.errors import RelayError
from relay.reconcile.job import ROWS, SEEN
from relay.reconcile.whole_files import part_of, put_in_place

_HANDED_ON = (SEEN, ROWS)
DIRECTORY = "reconcile"
"""Below the state directory: a folder for each platform, and in it one for each run."""


class Workspace:
    """The places of one run of a platform; ``kept`` is None where nothing can be kept. A context manager.

    Raises ``RelayError`` when another run of the platform is under way.
    """

    def __init__(self, state: Path, platform: str) -> None:
        self.kept = state / DIRECTORY / platform if os.access(state, os.W_OK) else None
        self._state = state
        self._platform = platform
        self._stack = ExitStack()
        self.folder = ""
        self.run = ""

    def __enter__(self) -> "Workspace":
        """Take the lock, make the folder (0700: it holds orders in plain text) and put what is handed on into it."""
        with ExitStack() as entered:
            if self.kept is not None:
                _make(self._state, self.kept)
                entered.enter_context(self._locked(self.kept / "lock"))
            parent, prefix = None if self.kept is None else self._state, f"reconcile-{self._platform}."
            if parent is not None:
                _remove_left(parent, prefix)
            self.folder = entered.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=parent))
            self.run = self._new_run()
            for name in _HANDED_ON:
                if self.kept is not None and (self.kept / name).exists():
                    shutil.copyfile(self.kept / name, Path(self.folder) / name)
            self._stack = entered.pop_all()  # where anything failed, nothing is left behind
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder and let go of the lock."""
        self._stack.close()

    def hand_on(self) -> None:
        """Keep what the next run must know. Call it after a run that is complete."""
        if self.kept is None:
            return
        for name in _HANDED_ON:
            written = Path(self.folder) / name
            if written.exists():
                part = part_of(self.kept / name)
                part.touch(mode=0o600)
                shutil.copyfile(written, part)
                put_in_place(self.kept / name)

    def give(self) -> None:
        """Let what was written belong to who owns the state directory."""
        if self.kept is not None:
            _give(self._state, self.kept)

    def _new_run(self) -> str:
        """Return a name that no kept run has: the time of its start in UTC."""
        while True:
            now = datetime.fromtimestamp(wall_s(), UTC)
            run = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z"
            if self.kept is None or not (self.kept / run).exists():
                return run

    def _locked(self, file: Path) -> IO[str]:
        lock = file.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise RelayError(f"another comparison of {self._platform} is under way; one runs at a time") from None
        return lock


def _remove_left(state: Path, prefix: str) -> None:
    """Remove the folders of runs of this platform that were killed. Call it under its lock."""
    for folder in state.glob(f"{glob.escape(prefix)}*"):
        if "." not in folder.name.removeprefix(prefix):  # else of a platform whose name goes on behind a dot
            shutil.rmtree(folder)


def _make(state: Path, kept: Path) -> None:
    for folder in (kept.parent, kept):
        folder.mkdir(mode=0o700, exist_ok=True)
    _give(state, kept.parent)


def _give(state: Path, folder: Path) -> None:
    """Let what root made belong to who owns the state directory: the daemon must be able to go on from it."""
    owner = state.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
