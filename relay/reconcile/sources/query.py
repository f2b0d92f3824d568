"""Reads what a database answers to a query, in chunks, through SQLAlchemy."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from relay.core.errors import RelayError
from relay.reconcile.job import SqlSource
from relay.reconcile.sources.record import Record, SideUnread

_ROWS_AT_ONCE = 5000


class QueryRecords:
    """The rows of a query. Its ``:since`` and ``:until`` are times without a zone in ``zone``, as most columns are.

    SQLite gets them as text (``2026-11-29 02:40:00``), which compares with ISO texts there.
    """

    def __init__(
        self, source: SqlSource, columns: Sequence[str], *, since: float, until: float, zone: ZoneInfo
    ) -> None:
        self.name = "query"
        self._source = source
        self._columns = columns
        self._window = (since, until)
        self._zone = zone

    def place(self, number: int) -> str:
        """Return the number of the row, from 1."""
        return f"{self.name}:{number}" if number else self.name

    def __iter__(self) -> Iterator[Record]:
        """Yield the rows; raises ``SideUnread`` where the database cannot be asked or fails half-way."""
        try:
            import sqlalchemy
        except ImportError:
            raise RelayError("SQL needs the library SQLAlchemy: install callback-relay[reconcile]") from None
        row = 0
        try:
            engine = sqlalchemy.create_engine(self._source.sql)
            if engine.dialect.name == "sqlite" and engine.url.database and not Path(engine.url.database).is_file():
                raise SideUnread(self.name, f"there is no database {Path(engine.url.database).name}")
            try:
                with engine.connect() as connection:
                    for setting in self._settings(engine.dialect.name):
                        connection.execute(sqlalchemy.text(setting))
                    query = sqlalchemy.text(self._source.query)
                    known = query.compile().params
                    bound = {name: at for name, at in self._bounds(engine.dialect.name).items() if name in known}
                    result = connection.execute(query, bound, execution_options={"stream_results": True})
                    pick = self._places(list(result.keys()))
                    for part in result.yield_per(_ROWS_AT_ONCE).partitions():
                        for found in part:
                            row += 1
                            yield row, [_plain(found[place]) for place in pick], ""
            finally:
                engine.dispose()
        except sqlalchemy.exc.NoSuchModuleError as error:
            raise SideUnread(self.name, f"the database is not known: {error}") from None
        except ImportError as error:
            raise SideUnread(self.name, f"its driver is not installed: {error.name}") from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise SideUnread(self.place(row), f"failed after {row} rows: {_words(error)}") from None
        if row == 0:
            raise SideUnread(self.name, "holds no row: an empty answer is not compared")

    def _places(self, keys: list[str]) -> list[int]:
        missing = [name for name in self._columns if name not in keys]
        if missing:
            raise SideUnread(self.name, f"the answer has no column {', '.join(missing)}; it has {', '.join(keys)}")
        return [keys.index(name) for name in self._columns]

    def _bounds(self, dialect: str) -> dict[str, Any]:
        since, until = (datetime.fromtimestamp(at, self._zone).replace(tzinfo=None) for at in self._window)
        if dialect == "sqlite":
            return {"since": f"{since:%Y-%m-%d %H:%M:%S}", "until": f"{until:%Y-%m-%d %H:%M:%S.%f}"}
        return {"since": since, "until": until}

    def _settings(self, dialect: str) -> list[str]:
        """Return what the session is told: to read only, and which zone times without one are in."""
        if dialect == "postgresql":
            return ["SET TRANSACTION READ ONLY", f"SET LOCAL TIME ZONE '{self._zone.key}'"]
        if dialect in ("mysql", "mariadb"):
            offset = datetime.fromtimestamp(self._window[1], self._zone).strftime("%z")
            return [f"SET time_zone = '{offset[:3]}:{offset[3:]}'", "SET SESSION TRANSACTION READ ONLY"]
        return ["PRAGMA query_only = 1"] if dialect == "sqlite" else []


def _plain(value: Any) -> Any:
    """Return a value as an export would write it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat(" ")
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)


def _words(error: Exception) -> str:
    """Return the database's own words without the statement, on one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]
