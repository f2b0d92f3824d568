"""Tells whether the write-ahead log was changed: SQLite leaves out all from its first wrong frame on, and says nothing.

That is right for a commit which a crash cut off: nobody was told of it, and no other commit follows it. Each frame's
checksum goes on from that of the frame before (https://www.sqlite.org/fileformat2.html#walformat). So where frames go
on from the wrong one and reach into a later commit, the wrong one was whole once. Then commits are lost of which
somebody was told. A wrong frame in the last commit looks like one that was cut off.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import apsw

from relay.core.errors import StoreUnusable
from relay.core.plural import count
from relay.store.sqlite.file.checksums import PAGE_BYTES

_HEAD_BYTES, _FRAME_BYTES = 32, 24 + PAGE_BYTES
_SUMS = struct.Struct(">II")
_WORDS = struct.Struct("=II")  # what is summed up: in the order of the machine that writes the log
_MODULUS = 1 << 32

Pair = tuple[int, int]


def lost_commits(connection: apsw.Connection) -> int:
    """Return how many commits are left out of the log beside the file of ``connection``; 0 where it is sound.

    Reads from the file first: the log is looked through at the first reading. Where a daemon writes on meanwhile it is
    0, too: a frame that is half written looks like a wrong one, and the daemon looked when it started.
    """
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    valid = _valid_frames(connection)
    log = Path(connection.filename_wal)
    if valid < 0 or not log.exists():
        return 0
    with log.open("rb") as opened:
        lost = _left_out(opened, valid)
    return lost if _valid_frames(connection) == valid else 0


def refuse_lost_commits(connection: apsw.Connection, path: Path) -> None:
    """Raise ``StoreUnusable`` where commits are left out of the log of the store at ``path``."""
    if lost := lost_commits(connection):
        raise StoreUnusable(
            f"{path}-wal is damaged: {count(lost, 'commit')} in it can no longer be read; relay restore BACKUP, or "
            "relay doctor --salvage for the rest"
        )


def _valid_frames(connection: apsw.Connection) -> int:
    return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]


def _left_out(log: BinaryIO, valid: int) -> int:
    head = log.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return 0
    kept, counted = _SUMS.unpack_from(head, 24), _sums(head[:24], (0, 0))
    commits, salts = 0, head[16:24]
    if kept == counted:
        if valid:
            log.seek(_HEAD_BYTES + (valid - 1) * _FRAME_BYTES)
            kept = _SUMS.unpack_from(log.read(_FRAME_BYTES), 16)
        for frame in _frames(log):  # sound ones that no commit ends, then perhaps a wrong one
            before, kept = kept, _SUMS.unpack_from(frame, 16)
            counted = _counted(frame, before)
            if kept != counted or frame[8:16] != salts:
                commits = _ends_commit(frame)
                break
        else:
            return 0
    else:
        salts = b""
    followed = False
    for frame in _frames(log):
        own = _SUMS.unpack_from(frame, 16)
        salts = salts or frame[8:16]
        if frame[8:16] != salts or own not in {_counted(frame, start) for start in (kept, counted)}:
            break
        kept = counted = own
        followed = followed or commits > 0
        commits += _ends_commit(frame)
    return commits if followed else 0


def _frames(log: BinaryIO) -> Iterator[bytes]:
    while len(frame := log.read(_FRAME_BYTES)) == _FRAME_BYTES:
        yield frame


def _ends_commit(frame: bytes) -> int:
    return int(frame[4:8] != bytes(4))


def _counted(frame: bytes, start: Pair) -> Pair:
    return _sums(frame[24:], _sums(frame[:8], start))


def _sums(data: bytes, start: Pair) -> Pair:
    s1, s2 = start
    for a, b in _WORDS.iter_unpack(data):
        s1 = (s1 + a + s2) % _MODULUS
        s2 = (s2 + b + s1) % _MODULUS
    return s1, s2
