"""Compares the staged sides with DuckDB. Only the child process imports this module (``compare``)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from relay.reconcile.job import SEEN, SENT, SIDES, Comparison, FileSource
from relay.reconcile.staging import StagedSide

_ROWS_AT_ONCE = 1000
_MOST_SUSPECTS = 200_000  # keys kept at once: some 30 MB
_NEWER = 1 << 62  # above every number of a callback: what was superseded tells only where nothing else does
_PLAIN_NUMBER = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,9})?"  # what DECIMAL(38,9) holds exactly; 007 is no number

_KINDS = """
CREATE TABLE found AS
WITH posted AS (
  SELECT key, arg_max(status, seq) AS status, arg_max(rank, seq) AS rank
  FROM sent WHERE state <> 'superseded' GROUP BY key
),
given AS (SELECT key, max(moment) AS moment FROM sent WHERE state = 'delivered' GROUP BY key),
asked AS (
  SELECT k.key, coalesce(a.status, r.status) AS status, coalesce(a.rank, r.rank) AS rank
  FROM (SELECT DISTINCT key FROM sent) AS k LEFT JOIN order_center AS a ON a.key = k.key
  LEFT JOIN posted AS r ON r.key = k.key
),
ours AS (
  SELECT w.key, arg_max(
    {{'id': s.id, 'state': s.state, 'at': s.moment, 'reason': s.reason, 'status': s.status}},
    s.seq + CASE WHEN s.state = 'superseded' THEN 0 ELSE {newer} END) AS last
  FROM asked AS w JOIN sent AS s ON s.key = w.key AND (s.status = w.status OR (w.rank >= 0 AND s.rank >= w.rank))
  GROUP BY w.key
),
pairs AS (
  SELECT coalesce(a.key, p.key) AS key, a.status AS a_status, p.status AS p_status, a.moment AS a_at, p.moment AS p_at,
    coalesce(a.n, 0) AS a_n, coalesce(p.n, 0) AS p_n, coalesce(nullif(a.place, ''), p.place, '') AS place,
    coalesce(a.status, r.status) AS wanted, coalesce(a.rank, r.rank) AS a_rank, p.rank AS p_rank,
    g.moment AS given_at, o.last AS last, {also} AS also_why,
    coalesce(s.first_seen, $until) AS first_seen, coalesce(s.runs, 0) + 1 AS runs, coalesce(s.carried, 0) AS carried,
    u.key IS NOT NULL AS unread
  FROM order_center AS a FULL JOIN platform AS p ON a.key = p.key
  LEFT JOIN posted AS r ON a.key IS NULL AND r.key = p.key
  LEFT JOIN given AS g ON g.key = coalesce(a.key, p.key)
  LEFT JOIN ours AS o ON o.key = coalesce(a.key, p.key)
  LEFT JOIN seen AS s ON s.key = coalesce(a.key, p.key)
  LEFT JOIN watched AS w ON w.key = coalesce(a.key, p.key)
  LEFT JOIN unread AS u ON u.key = coalesce(a.key, p.key)
  WHERE a.place <> '' OR p.place <> '' OR a.moment >= $since OR p.moment >= $since OR (
    a.key IS NOT NULL AND (w.key IS NOT NULL OR ($follow AND s.key IS NOT NULL))
    AND (p.key IS NOT NULL OR $platform_lists_all OR a.moment >= $asked_since))
),
judged AS (
  SELECT *, p_n = 0 OR wanted IS NULL OR wanted <> p_status OR also_why IS NOT NULL AS differs,
    greatest(coalesce(a_at, 0), coalesce(p_at, 0), coalesce(given_at, 0)) > $until - $settle AS fresh
  FROM pairs
),
waiting AS (
  SELECT *, carried < $carry AND (fresh OR carried > 0) AS waits FROM judged
),
named AS (
  SELECT *, CASE
    WHEN place <> '' THEN 'unreadable'
    WHEN a_n > 1 OR p_n > 1 THEN 'duplicate'
    WHEN NOT differs THEN CASE WHEN {stuck} THEN 'stuck' END
    WHEN waits OR unread OR (p_n = 0 AND NOT $platform_whole) OR (wanted IS NULL AND NOT $center_whole) THEN 'unsettled'
    WHEN p_n = 0 THEN 'missing'
    WHEN wanted IS NULL THEN 'unknown'
    WHEN wanted <> p_status AND (a_rank < 0 OR p_rank < 0) THEN 'conflict'
    WHEN p_rank < a_rank THEN 'behind'
    WHEN p_rank > a_rank THEN 'ahead'
    ELSE 'different' END AS kind
  FROM waiting
)
SELECT key, kind, a_status, a_at, p_status, p_at, a_n, p_n, place, last, first_seen, runs,
  carried + CAST(kind = 'unsettled' AND waits AS INTEGER) AS carried, CASE
  WHEN kind = 'different' THEN also_why
  WHEN kind = 'unsettled' AND NOT waits THEN 'not_read'
  WHEN kind NOT IN ('missing', 'behind') THEN NULL
  WHEN last IS NULL THEN CASE WHEN a_at < $until - $keep THEN 'pruned' ELSE 'not_posted' END
  WHEN last.state = 'pending' THEN 'waiting'
  WHEN last.state = 'delivered' THEN 'not_applied'
  WHEN last.state = 'superseded' THEN 'not_posted'
  ELSE last.state END AS why
FROM named
"""
# An order that the relay vouches for and only the platform lists agrees with nothing on the other side: not counted
_COUNTS = """SELECT kind, count(*), sum(a_n)::BIGINT, sum(p_n)::BIGINT FROM found
WHERE kind IS NOT NULL OR (a_n = 1 AND p_n = 1) GROUP BY kind"""
_FOUND = """SELECT key, kind, why, a_status, a_at, p_status, p_at, place, last, first_seen, runs, carried
FROM found WHERE kind IS NOT NULL
ORDER BY kind, key"""
_AGREEING = """SELECT w.key FROM watched AS w JOIN found AS f ON f.key = w.key
WHERE (f.kind IS NULL OR f.kind = 'stuck') AND f.a_n = 1 AND f.p_n = 1"""
_NOT_COMPARED = "SELECT key, first_seen, runs, carried FROM seen WHERE key NOT IN (SELECT key FROM found)"
_SUSPECTS = """
SELECT coalesce(a.key, p.key) FROM order_center AS a FULL JOIN platform AS p ON a.key = p.key
WHERE a.key IS NULL OR p.key IS NULL OR a.status <> p.status OR {also} IS NOT NULL LIMIT $most
"""
_REACH = """SELECT oldest, (SELECT count(*) FROM {other} WHERE moment >= $since AND moment < oldest)
FROM (SELECT min(moment) AS oldest FROM {side} WHERE moment > 0)"""
_ONE_SIDED = "SELECT key, last.id FROM found WHERE kind = $kind ORDER BY key"
_SAME = """INSERT INTO platform SELECT * REPLACE (1 AS n, 0.0 AS moment) FROM order_center WHERE key IN (
SELECT unnest($keys))"""


class Engine:
    """One comparison in a database in memory, which spills into the run's folder only."""

    def __init__(self, folder: str) -> None:
        self._db = duckdb.connect(":memory:")
        for line in (
            "SET memory_limit = '256MB'",
            "SET threads = 1",
            "SET preserve_insertion_order = false",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            f"SET temp_directory = {_quoted(folder)}",
            f"SET allowed_directories = [{_quoted(folder)}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._db.execute(line)

    def load(self, wanted: Comparison, center: StagedSide, shown: StagedSide) -> None:
        """Read what was staged of both sides."""
        self._wanted = wanted
        self._whole = {"platform_whole": shown.whole, "center_whole": center.whole}
        self._also = list(wanted.order_center.also)
        for name, side in zip(SIDES, (center, shown), strict=True):
            self._db.execute(f"CREATE TABLE {name} AS {self._rows_of(side.file)}")

    def reach(self, side: str, other: str) -> tuple[float | None, int]:
        """Return when the oldest row of a side changed, and how many of the other side's did before, in the window."""
        query = _REACH.format(side=side, other=other)
        found: tuple[float | None, int] = self._db.execute(query, {"since": self._wanted.since}).fetchall()[0]
        return found

    def suspects(self) -> frozenset[str] | None:
        """Return the orders that differ or stand on one side only; None: so many that all of the relay's are read."""
        also = _also(self._also, self._wanted.tolerance)
        keys = self._db.execute(_SUSPECTS.format(also=also), {"most": _MOST_SUSPECTS + 1}).fetchall()
        return None if len(keys) > _MOST_SUSPECTS else frozenset(key for (key,) in keys)

    def load_ours(self) -> None:
        """Read the relay's rows and what was seen in the last run."""
        wanted = self._wanted
        sent = ("seq BIGINT", "key", "status", "rank INTEGER", "id", "state", "moment DOUBLE", "reason")
        seen = ("key", "first_seen DOUBLE", "runs INTEGER", "carried INTEGER")
        for name, file, columns in (("sent", SENT, sent), ("seen", SEEN, seen)):
            table = _csv(str(Path(wanted.folder) / file), columns)
            self._db.execute(f"CREATE TABLE {name} AS SELECT * FROM {table}")  # noqa: S608
        self._db.execute("CREATE TABLE unread (key VARCHAR)")
        self._db.execute("CREATE TABLE watched (key VARCHAR)")
        self._db.execute("INSERT INTO watched SELECT DISTINCT unnest($keys::VARCHAR[])", {"keys": wanted.watched})

    def judge(self) -> None:
        """Decide each order's kind and why; again after rows were added."""
        wanted = self._wanted
        stuck = [f"(a_status = {_quoted(word)} AND $until - a_at > {limit!r})" for word, limit in wanted.stuck.items()]
        self._db.execute("DROP TABLE IF EXISTS found")
        self._db.execute(
            _KINDS.format(also=_also(self._also, wanted.tolerance), stuck=" OR ".join(stuck) or "false", newer=_NEWER),
            {
                "since": wanted.since,
                "asked_since": wanted.asked_since,
                "follow": wanted.follow,
                "platform_lists_all": wanted.confirms or isinstance(wanted.shown.source, FileSource),
                "until": wanted.until,
                "settle": wanted.settle_s,
                "carry": wanted.carry,
                "keep": wanted.keep_s,
                **self._whole,
            },
        )

    def one_sided(self, kind: str) -> list[tuple[str, str | None]]:
        """Return the orders of a kind, each with the id of the relay's last callback for it, if any."""
        rows: list[tuple[str, str | None]] = self._db.execute(_ONE_SIDED, {"kind": kind}).fetchall()
        return rows

    def add(self, side: str, file: str) -> None:
        """Add staged rows of orders that the side did not list."""
        self._db.execute(f"INSERT INTO {side} {self._rows_of(file)}")

    def add_same(self, keys: Sequence[str]) -> None:
        """Let the platform show these orders as the order center does."""
        self._db.execute(_SAME, {"keys": list(keys)})

    def leave(self, keys: Sequence[str]) -> None:
        """Let these orders be unsettled: they could not be looked up."""
        self._db.execute("INSERT INTO unread SELECT unnest($keys)", {"keys": list(keys)})

    def counts(self) -> list[tuple[str | None, int, int, int]]:
        """Return of each kind (None: those that agree) the orders and the rows of either side."""
        rows: list[tuple[str | None, int, int, int]] = self._db.execute(_COUNTS).fetchall()
        return rows

    def agreeing(self) -> list[str]:
        """Return which of the watched orders agree, each of them once on either side."""
        return [key for (key,) in self._db.execute(_AGREEING).fetchall()]

    def not_compared(self) -> Iterator[tuple[Any, ...]]:
        """Yield what is known of orders of the last run that this one did not compare."""
        yield from self._db.execute(_NOT_COMPARED).fetchall()

    def found(self) -> Iterator[tuple[Any, ...]]:
        """Yield every difference, by kind and key."""
        cursor = self._db.execute(_FOUND)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield from rows

    def _rows_of(self, file: str) -> str:
        also = range(len(self._also))
        columns = ["key", "status", "rank INTEGER", "moment DOUBLE", "place", *(f"also{n}" for n in also)]
        values = "".join(f", arg_max(coalesce(also{n}, ''), moment) AS also{n}" for n in also)
        return (
            "SELECT key, count(*) AS n, arg_max(status, moment) AS status, "  # noqa: S608
            "arg_max(rank, moment) AS rank, max(moment) AS moment, coalesce(max(place), '') AS place"
            f"{values} FROM {_csv(file, columns)} GROUP BY key"
        )


def _csv(file: str, columns: Sequence[str]) -> str:
    declared = ", ".join(
        f"'{name}': '{kind or 'VARCHAR'}'" for name, _, kind in (column.partition(" ") for column in columns)
    )
    return (
        f"read_csv({_quoted(file)}, auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"', "
        f"new_line = '\\r\\n', columns = {{{declared}}})"
    )


def _also(names: Sequence[str], tolerance: Mapping[str, float]) -> str:
    """Return what tells the first value that differs: ``over`` or ``short`` for numbers, else the column's name."""
    parts = []
    for n, name in enumerate(names):
        ours, theirs = f"a.also{n}", f"p.also{n}"
        numbers = " AND ".join(f"regexp_full_match({side}, '{_PLAIN_NUMBER}')" for side in (ours, theirs))
        gap = f"(try_cast({theirs} AS DECIMAL(38, 9)) - try_cast({ours} AS DECIMAL(38, 9)))"
        most = f"{tolerance.get(name, 0.0):.9f}::DECIMAL(38, 9)"
        parts.append(
            f"CASE WHEN {numbers} THEN CASE WHEN {gap} > {most} THEN 'over' WHEN {gap} < -({most}) THEN 'short' END "
            f"WHEN {ours} <> {theirs} THEN {_quoted(name)} END"
        )
    return f"coalesce({', '.join(parts)}, NULL)" if parts else "NULL"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
