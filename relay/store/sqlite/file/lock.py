"""One daemon per store file, by whatever name it is reached; and nothing is changed that is not the relay's.

Two locks are held, both given up by the system when the process ends:

1. on a file beside the store, ``relay.db.lock``, which holds the owner's process id: one daemon per *name*, so that a
   database put in the place of a running one is not opened beside the WAL of the other;
2. on the store file itself: one daemon per *file*, also through symbolic and hard links, bind mounts and other paths.

``flock`` knows nothing of the POSIX locks SQLite takes, but closing any descriptor of a file drops those, all that
the process has: so the store file is opened once, before SQLite does, and closed after it.
"""

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path

import apsw

from relay.core.errors import StoreLocked, StoreUnusable
from relay.store.sqlite.file import exchange

APPLICATION_ID = 0x52_4C_59_31  # "RLY1": tells the file from any other program's database
_MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat2.html, 1.3: so do the offsets below
# Pages, auto_vacuum, user_version, application_id, and cells of the first page's tree.
_HEADER = struct.Struct(">28x I 20x I 4x I 4x I 31x H")
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe in its place must not hold up the start
_MODE = 0o600
_PID_DIGITS = 20
_REMEDIES = {
    errno.ENOSPC: "free some space on the disk; nothing accepted is lost",
    errno.EDQUOT: "free some space under the quota; nothing accepted is lost",
    errno.EROFS: "mount the file system writable, or point store.url elsewhere",
    errno.EACCES: "the relay needs write permission on the file and its directory",
    errno.EPERM: "the relay needs write permission on the file and its directory",
    errno.ENOENT: "create the directory first, or point store.url elsewhere",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= of the unit)",
    errno.ENFILE: "the whole machine has no free file left: raise fs.file-max",
    errno.ELOOP: "a symbolic link lies there, which the relay does not follow: remove it",
}


class WalLost(Exception):
    """The ``-wal`` beside the store was deleted or replaced: what is committed from now on would be lost at a crash."""


class FileLock:
    """Holds the store file at ``path`` (symbolic links resolved) for this process."""

    def __init__(self, path: Path) -> None:
        """Look whose file it is, lock it, and make it private.

        Raises ``StoreLocked`` naming the owner, or ``StoreUnusable``; then nothing was changed.
        """
        self.path = Path(os.path.realpath(path))
        self.exchanged = False  # an exchange that was cut off came to its end here
        self.begun = False  # there was no store
        self._open: list[int] = []
        self._wal: tuple[int, int] | None = None
        try:
            self._hold()
        except BaseException:  # whatever it was: undone, then raised on
            self.release()
            raise

    def _hold(self) -> None:
        file = self._opened(self.path, create=False)
        if file is not None:
            _refuse_foreign(file, self.path)
        beside = self._opened(self.path.with_name(self.path.name + ".lock"), create=True)
        assert beside is not None, "created"
        owner = os.pread(beside, _PID_DIGITS + 2, 0)
        if owner.strip(b"0123456789\n") or os.fstat(beside).st_nlink != 1:
            raise StoreUnusable(
                f"{self.path}.lock is no lock of a relay: it holds more than a process id; move it away"
            )
        self._lock(beside)
        self.exchanged = exchange.finish(self.path)
        if self.exchanged:
            file = self._opened(self.path, create=False)
        if file is None or not os.fstat(file).st_size:
            self._refuse_lone_log()
            self.begun = True
        if file is None:
            file = self._opened(self.path, create=True)
            assert file is not None, "created"
        self._lock(file)
        about = os.fstat(file)
        if about.st_nlink > 1:
            # https://www.sqlite.org/howtocorrupt.html, 2.4: the WAL is kept by the name it is opened under
            raise StoreUnusable(
                f"{self.path} has {about.st_nlink} names (hard links), and what was accepted under one of them could "
                "not be seen under the other; remove the other names, or copy the file to one of its own"
            )
        self._identity = (about.st_dev, about.st_ino)
        for descriptor in (file, beside):
            self._make_private(descriptor)
        for ending in ("-wal", "-shm"):
            self._make_side_file_private(self.path.with_name(self.path.name + ending))
        os.ftruncate(beside, 0)
        os.pwrite(beside, f"{os.getpid()}\n".encode("ascii"), 0)

    def _refuse_lone_log(self) -> None:
        """Begin no store beside the log of another: SQLite would delete it, and what it holds was answered 202."""
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise StoreUnusable(
                f"{self.path} is gone or empty, and {log} holds commits of it: put the file back, or move the log away "
                "to begin anew"
            )

    def watch_wal(self) -> None:
        """Remember which ``-wal`` SQLite has open: call it when the file has just been opened for writing."""
        self._wal = self._wal_now()

    def check(self) -> None:
        """Raise ``apsw.CantOpenError`` when the file was moved, deleted or replaced since it was locked."""
        try:
            about = os.stat(self.path)
        except FileNotFoundError:
            raise apsw.CantOpenError("the file is gone: put it back, or start the relay again to begin anew") from None
        if (about.st_dev, about.st_ino) != self._identity:
            raise apsw.CantOpenError("another file lies in its place: put it back, or start the relay again with that")

    def check_all(self) -> None:
        """Check the file, and raise ``WalLost`` when its ``-wal`` was deleted or replaced.

        SQLite goes on writing to a deleted one, and after a crash nothing finds it
        (https://www.sqlite.org/howtocorrupt.html, 4.4).
        """
        self.check()
        if self._wal is not None and self._wal_now() != self._wal:
            raise WalLost(
                f"{self.path.name}-wal was deleted or replaced while the relay ran; what it held is copied into "
                f"{self.path.name}, and the relay must start again"
            )

    def _wal_now(self) -> tuple[int, int] | None:
        try:
            about = os.stat(self.path.with_name(self.path.name + "-wal"))
        except FileNotFoundError:
            return None
        return about.st_dev, about.st_ino

    def release(self) -> None:
        """Give the locks up. The file beside stays: removing it would let two daemons lock two different files."""
        while self._open:
            os.close(self._open.pop())

    def _opened(self, path: Path, *, create: bool) -> int | None:
        """Open a regular file and keep the descriptor; None where there is none and it is not to be created."""
        try:
            descriptor = os.open(path, _OPEN | (os.O_CREAT if create else 0), _MODE)
        except FileNotFoundError as error:
            if create:
                raise unusable(path, error) from error
            return None
        except OSError as error:
            raise unusable(path, error) from error
        self._open.append(descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreUnusable(f"{path} is no regular file; point store.url to another file")
        return descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreLocked(
                f"{self.path} is in use by another relay, process {_owner(descriptor)}; stop it first or give this "
                "one its own store.url"
            ) from error
        except OSError as error:
            raise unusable(self.path, error) from error

    def _make_private(self, descriptor: int) -> None:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o177:  # e.g. from a backup
            try:
                os.fchmod(descriptor, _MODE)
            except OSError as error:
                raise StoreUnusable(f"cannot make {self.path} private (mode 0600): {error.strerror}") from error

    def _make_side_file_private(self, path: Path) -> None:
        """SQLite gives new ones the mode of the database; one that came from elsewhere keeps what it has."""
        if (descriptor := self._opened(path, create=False)) is not None:
            self._make_private(descriptor)
            os.close(self._open.pop())


def unusable(path: Path, error: OSError) -> StoreUnusable:
    """Say what the system refused, and what helps."""
    remedy = _REMEDIES.get(error.errno or 0, "the relay needs a directory it may write to")
    return StoreUnusable(f"cannot open {path}: {error.strerror}; {remedy}")


def not_a_database(path: Path) -> StoreUnusable:
    """Say that the file is none of SQLite's."""
    return StoreUnusable(f"{path} is not a database; point store.url to another file or move this one away")


def foreign(path: Path) -> StoreUnusable:
    """Say that the file belongs to another program."""
    return StoreUnusable(f"{path} is another program's database; point store.url to another file")


def _refuse_foreign(descriptor: int, path: Path) -> None:
    """Look at the first page; SQLite itself would leave files beside the database it only looks at."""
    head = os.pread(descriptor, _HEADER.size, 0)
    if not head:
        return
    if len(head) < _HEADER.size or not head.startswith(_MAGIC):
        raise not_a_database(path)
    pages, vacuum, version, owner, cells = _HEADER.unpack(head)
    # One page that holds nothing but auto_vacuum is what a store is for a moment when it is made.
    if owner != APPLICATION_ID and (owner or version or pages > 1 or cells or not vacuum):
        raise foreign(path)


def _owner(descriptor: int) -> str:
    """Return the process id of whoever has the lock, as Linux tells it (proc_locks(5))."""
    about = os.fstat(descriptor)
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == place:
                return words[4]
    except (OSError, IndexError):
        pass  # not Linux, or not shown here: the number in the lock file is as good, where it is that file
    told = os.pread(descriptor, _PID_DIGITS, 0)
    return told.decode("ascii").strip() if told.strip().isdigit() else "unknown"
