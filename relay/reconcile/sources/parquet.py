"""Reads a Parquet file with DuckDB, in the process that compares."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from relay.reconcile.job import FileSource
from relay.reconcile.sources.record import Record, SideUnread

_ROWS_AT_ONCE = 10_000
_LIMITS = (
    "SET memory_limit = '128MB'",
    "SET threads = 1",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
)


class ParquetRecords:
    """The rows of a Parquet file; every value is compared as the text that DuckDB makes of it."""

    def __init__(self, source: FileSource, columns: Sequence[str]) -> None:
        self.name = Path(source.file).name
        self._file = source.file
        self._columns = columns

    def place(self, number: int) -> str:
        """Return file and row, from 1."""
        return f"{self.name}:{number}" if number else self.name

    def __iter__(self) -> Iterator[Record]:
        """Yield the rows; raises ``SideUnread`` where the file is missing, empty, cut off or of another form."""
        row = 0
        wanted = ", ".join(f'CAST("{name.replace(chr(34), chr(34) * 2)}" AS VARCHAR)' for name in self._columns)
        if not Path(self._file).is_file():
            raise SideUnread(self.name, "cannot be read: there is no such file")
        try:
            with duckdb.connect(":memory:") as db:
                for line in _LIMITS:
                    db.execute(line)
                db.execute("SET allowed_paths = [$1]", [self._file])
                db.execute("SET enable_external_access = false")
                rows = db.execute(f"SELECT {wanted} FROM read_parquet($1)", [self._file])  # noqa: S608 - quoted above
                while found := rows.fetchmany(_ROWS_AT_ONCE):
                    for values in found:
                        row += 1
                        yield row, values, ""
        except duckdb.Error as error:
            raise SideUnread(self.place(row), f"cannot be read: {str(error).splitlines()[0]}") from None
        if row == 0:
            raise SideUnread(self.name, "holds no row: an empty export is not compared")
