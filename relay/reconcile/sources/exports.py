"""Reads an export line by line, whatever its form, packing and encoding."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import msgspec

from relay.reconcile.job import FileSource
from relay.reconcile.sources.record import Record, SideUnread, value_at


class FileRecords:
    """The rows of a file. ``columns`` are names of CSV columns, JMESPaths into JSON."""

    def __init__(self, source: FileSource, columns: Sequence[str]) -> None:
        self.name = Path(source.file).name
        self._source = source
        self._columns = columns
        self._line = 0

    def place(self, number: int) -> str:
        """Return file and line."""
        return f"{self.name}:{number}" if number else self.name

    def __iter__(self) -> Iterator[Record]:
        """Yield the rows; raises ``SideUnread`` where the file is missing, empty, cut off or of another form."""
        source, self._line = self._source, 0
        read = self._of_csv if ".csv" in Path(source.file).suffixes else self._of_json
        try:
            with _opened(source) as text:
                yield from read(text)
        except EOFError:
            raise SideUnread(self.place(self._line), "the file is cut off: its packing does not end") from None
        except UnicodeError as error:
            reason = error.reason  # type: ignore[attr-defined]
            why = f"from here on it is not {source.encoding} ({reason}); another one is named by `encoding`"
            raise SideUnread(self.place(self._line + 1), why) from None
        except OSError as error:
            raise SideUnread(self.place(self._line), f"cannot be read: {error.strerror or error}") from None
        except csv.Error as error:
            raise SideUnread(self.place(self._line + 1), f"is no CSV: {error}") from None
        if self._line == 0:
            raise SideUnread(self.name, "holds no row: an empty export is not compared")

    def _of_csv(self, text: io.TextIOBase) -> Iterator[Record]:
        reader = csv.reader(text, strict=True)
        header = next(reader, None)
        if header is None:
            return
        missing = [name for name in self._columns if name not in header]
        if missing:
            has = ", ".join(header)[:200]
            raise SideUnread(self.place(1), f"the header has no column {', '.join(missing)}; it has {has}")
        pick = itemgetter(*(header.index(name) for name in self._columns))
        width = len(header)
        for cells in reader:
            if len(cells) == width:
                self._line = reader.line_num
                yield reader.line_num, pick(cells), ""
            elif cells:
                self._line = reader.line_num
                yield reader.line_num, (), f"{len(cells)} fields where the header has {width}"

    def _of_json(self, text: io.TextIOBase) -> Iterator[Record]:
        decode = _decoder(self._columns)
        for line, raw in enumerate(text, start=1):
            if not raw.strip():
                continue
            self._line = line
            try:
                yield line, decode(raw), ""
            except (ValueError, RecursionError):
                yield line, (), "is no JSON object"


def _decoder(columns: Sequence[str]) -> Callable[[str], Sequence[Any]]:
    """Return what finds the columns in a line of JSON. Numbers stay the text they are written as: 1.10."""
    if not all(name.isidentifier() for name in columns):
        finders = [value_at(name) for name in columns]

        def search(line: str) -> Sequence[Any]:
            value = json.loads(line, parse_float=str)
            return [find(value) for find in finders]

        return search
    own = {f"c{n}": name for n, name in enumerate(dict.fromkeys(columns))}
    row = msgspec.defstruct("Row", [(field, Any, None) for field in own], rename=own)
    decode = msgspec.json.Decoder(row, float_hook=str).decode
    fields = {name: field for field, name in own.items()}
    pick = attrgetter(*(fields[name] for name in columns))
    return lambda line: pick(decode(line))


def _opened(source: FileSource) -> io.TextIOBase:
    if source.file.endswith(".gz"):
        raw: Any = gzip.open(source.file, "rb")  # noqa: SIM115 - closed with the text around it
    elif source.file.endswith(".zst"):
        raw = _zstd_open(source.file)
    else:
        raw = open(source.file, "rb")  # noqa: SIM115 - closed with the text around it
    encoding = "utf-8-sig" if source.encoding == "utf-8" else source.encoding  # spreadsheets write a byte order mark
    return io.TextIOWrapper(raw, encoding=encoding, newline="")


def _zstd_open(file: str) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    return zstd.open(file, "rb")
