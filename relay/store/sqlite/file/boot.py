"""What opening a store file settles: its identity, the clock it runs on, and attempts a crash cut off.

Nothing here scans: every read is one seek into a primary key or a partial index, however much is queued.
"""

import secrets
from collections.abc import Mapping
from importlib import metadata
from typing import NamedTuple

import apsw

from relay.core import clock as clocks
from relay.core.clock import LEAP_S, Clock, ClockState, Leap, RelayClock, Resumed
from relay.core.ids import TAG_BITS
from relay.core.model import Outcome
from relay.store.history import MINUTE_S
from relay.store.sqlite.file.checksums import damage
from relay.store.sqlite.file.foreign.copied import way_of
from relay.store.sqlite.file.foreign.public_ids import PublicIds, ids_of
from relay.store.sqlite.file.names import SECRET_BYTES
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.trail import begin_chain
from relay.store.sqlite.file.transaction import SET_META, numbers
from relay.store.sqlite.file.unlocking import Unlocked, unlock
from relay.store.transfer.hashes import HashWay

_CUT_OFF = """
UPDATE attempt SET ended_at = ?1, outcome = ?2, duration_s = max(0.0, ?1 - started_at), ambiguous = 1,
  reason = 'the relay ended while this request was under way'
WHERE ended_at IS NULL AND id NOT IN (SELECT value FROM carray(?3))
"""
_FREEZE_AGAIN = """
UPDATE batch SET state = 0, due_at = ?1 WHERE state = 1 AND number NOT IN (
  SELECT a.batch FROM attempt AS a INDEXED BY attempt_open WHERE a.ended_at IS NULL)
"""
_BY_PLATFORM = """
SELECT p.name, count(*), sum(length(b.members) / 8) FROM batch AS b JOIN platform AS p ON p.id = b.platform
WHERE b.number IN (SELECT value FROM carray(?)) GROUP BY p.name ORDER BY p.name
"""
_MAYBE_APPLIED = """
UPDATE callback SET maybe_applied = 1 WHERE seq IN (SELECT value FROM carray(?))
"""


_LEAP = ("leap_at", "leap_s")  # names in ``meta``


class CutOff(NamedTuple):
    """Requests of one platform that were under way when the last process ended, and the callbacks in them."""

    platform: str
    requests: int
    callbacks: int


class StoreIdentity(NamedTuple):
    """What a store file knows of itself, and how this process continues it."""

    ids: PublicIds
    way: HashWay
    secret: bytes
    seals: Seals
    clock: Clock
    continuous: bool  # stored times compare with the clock; else slots count from the start
    opened_at: float
    platforms: dict[str, int]
    last_seq: int
    last_number: int
    last_attempt: int
    last_minute: int  # the last one whose totals are kept
    leap: Leap | None  # within the last day
    cut_off: list[CutOff]  # by platform


def boot(
    connection: apsw.Connection, clock: Clock | None, unlocked: Unlocked | None, *, sends: bool = True
) -> StoreIdentity:
    """Read or create the file's identity, resume its clock, and record what a crash cut off. One transaction.

    ``sends`` False: the file is only filled; what is under way in it stays so.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        if "tag" not in meta:
            meta["tag"] = secrets.randbits(TAG_BITS)
            meta["secret"] = secrets.token_bytes(SECRET_BYTES)
        last_seq, last_number, last_attempt = connection.execute(
            "SELECT (SELECT coalesce(max(seq), 0) FROM callback), (SELECT coalesce(max(number), 0) FROM batch), "
            "(SELECT coalesce(max(id), 0) FROM attempt)"
        ).get
        meta["last_at"] = max(meta.get("last_at", 0.0), last_seq / 1e6, last_number / 1e6)
        resumed = Resumed(0.0, continuous=True)
        if clock is None:
            clock, resumed = _resume(meta)
        now = meta["last_at"] = clock.now()
        if resumed.ahead_s > LEAP_S and not clocks.is_synchronized():
            meta[_LEAP[0]], meta[_LEAP[1]] = now, resumed.ahead_s
        secret, seals = unlock(connection, meta, unlocked)
        meta["written_by"] = _release()
        connection.executemany(SET_META, list(meta.items()))
        lost = cut_off(connection, now, []) if sends else []
        begin_chain(connection, now)
        connection.execute("UPDATE operation_wait SET batch = 0")  # what was under way is not, any more
        platforms = dict(connection.execute("SELECT name, id FROM platform"))
        connection.execute("COMMIT")
    except BaseException:  # whatever it was, also a cancellation: undone, then raised on
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return StoreIdentity(
        ids=ids_of(connection),
        way=way_of(meta),
        secret=secret,
        seals=seals,
        clock=clock,
        continuous=resumed.continuous,
        opened_at=now,
        platforms=platforms,
        last_seq=last_seq,
        last_number=last_number,
        last_attempt=last_attempt,
        last_minute=_last_minute(connection, now),
        leap=_leap(meta, now),
        cut_off=_by_platform(connection, lost),
    )


def _by_platform(connection: apsw.Connection, batches: list[int]) -> list[CutOff]:
    """Return how many of these requests there were of each platform, and of callbacks in them."""
    if not batches:
        return []
    return [CutOff(*row) for row in connection.execute(_BY_PLATFORM, (numbers(batches),))]


def _leap(meta: Mapping[str, object], now: float) -> Leap | None:
    """Return a leap of the wall clock that is doubted still."""
    if _LEAP[0] not in meta:
        return None
    leap = Leap(float(str(meta[_LEAP[0]])), float(str(meta[_LEAP[1]])))
    return leap if leap.at <= now < leap.doubted_until else None


def _last_minute(connection: apsw.Connection, now: float) -> int:
    """Return the last minute whose totals are kept; where that cannot be read the running one, so none is added to it.

    The history is shown to people and nothing else needs it: damage in it keeps no relay from starting.
    """
    try:
        found: int = connection.execute("SELECT coalesce(max(minute), 0) FROM sample WHERE platform = 0").get
    except apsw.Error as error:
        if not damage(error):
            raise
        return int(now // MINUTE_S)
    return found


def cut_off(connection: apsw.Connection, now: float, under_way: list[int]) -> list[int]:
    """End attempts that nobody in this process is making (all but ``under_way``) as crashed, and thus ambiguous.

    Their batches wait, due now, to be sent again as they are. Returns their numbers.
    """
    lost = [
        batch
        for attempt, batch in connection.execute(
            "SELECT id, batch FROM attempt INDEXED BY attempt_open WHERE ended_at IS NULL"
        )
        if attempt not in set(under_way)
    ]
    # carray takes no empty array; no attempt has the number 0.
    connection.execute(_CUT_OFF, (now, Outcome.CRASH.value, numbers(under_way or [0])))
    connection.execute(_FREEZE_AGAIN, (now,))
    for number in lost:
        members = connection.execute("SELECT members FROM batch WHERE number = ?", (number,)).get
        if members:
            connection.execute(_MAYBE_APPLIED, (apsw.carray(members, flags=apsw.SQLITE_CARRAY_INT64),))
    return lost


def clock_of(meta: Mapping[str, object]) -> RelayClock:
    """Return the clock that a daemon would continue with, for who only reads its file."""
    return RelayClock(_resumed(meta, clocks.boot_id()).offset_s)


def _resume(meta: dict[str, object]) -> tuple[Clock, Resumed]:
    """Continue the clock of the file, noting in ``meta`` what it runs on now."""
    boot_id = clocks.boot_id()
    resumed = _resumed(meta, boot_id)
    meta["boot_id"], meta["offset_s"] = boot_id, resumed.offset_s
    return RelayClock(resumed.offset_s), resumed


def _resumed(meta: Mapping[str, object], boot_id: str) -> Resumed:
    stored = None
    if "boot_id" in meta:
        stored = ClockState(str(meta["boot_id"]), float(str(meta["offset_s"])), float(str(meta["last_at"])))
    return clocks.resume(stored, boot_id=boot_id, boottime_s=clocks.boottime_s(), wall_s=clocks.wall_s())


def _release() -> str:
    """Return the relay's version, for whoever meets the file with an older one."""
    try:
        return metadata.version("callback-relay")
    except metadata.PackageNotFoundError:
        return "(not installed)"  # run from a source tree
