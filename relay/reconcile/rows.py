"""Reads an export line by line into plain rows, whatever its form, packing and encoding."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import jmespath

from relay.reconcile.job import ExportSide

_MILLISECONDS_FROM = 1e11  # as seconds that is the year 5138


class SideUnread(Exception):
    """A side could not be read whole. ``line`` is 0 where it is the file itself."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


class ExportRow(NamedTuple):
    """One order as a side shows it. ``fault`` says why it cannot be compared, else it is empty.

    A row without a key could be any order: then nothing may be concluded from an order's absence.
    """

    line: int
    key: str
    status: str
    at: float
    also: list[str]
    fault: str


def export_rows(side: ExportSide, *, order: frozenset[str], tz: str) -> Iterator[ExportRow]:
    """Yield the rows of ``side``; raises ``SideUnread`` where the file is missing, cut off or of another form."""
    zone = ZoneInfo(tz)
    line = 0
    try:
        with _opened(side) as text:
            read = _csv_records if ".csv" in Path(side.file).suffixes else _json_records
            for line, values, fault in read(text, side):
                yield _row(side, line, values, fault, order, zone)
    except EOFError:
        raise SideUnread(line, "the file is cut off: its packing does not end") from None
    except UnicodeError as error:
        raise SideUnread(line + 1, f"from here on it is not {side.encoding}: {error.reason}") from None  # type: ignore[attr-defined]
    except OSError as error:
        raise SideUnread(line, f"cannot be read: {error.strerror or error}") from None
    except csv.Error as error:
        raise SideUnread(line + 1, f"is no CSV: {error}") from None
    if line == 0:
        raise SideUnread(0, "holds no row: an empty export is not compared")


def _opened(side: ExportSide) -> io.TextIOBase:
    if side.file.endswith(".gz"):
        raw: Any = gzip.open(side.file, "rb")  # noqa: SIM115 - closed with the text around it
    elif side.file.endswith(".zst"):
        raw = _zstd_open(side.file)
    else:
        raw = open(side.file, "rb")  # noqa: SIM115 - closed with the text around it
    return io.TextIOWrapper(raw, encoding=side.encoding, newline="")


def _zstd_open(file: str) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    return zstd.open(file, "rb")


_Record = tuple[int, Mapping[str, Any], str]


def _csv_records(text: io.TextIOBase, side: ExportSide) -> Iterator[_Record]:
    reader = csv.reader(text, strict=True)
    header = next(reader, None)
    if header is None:
        return
    wanted = (side.key, side.status, side.at, *side.also)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise SideUnread(1, f"the header has no column {', '.join(missing)}; it has {', '.join(header)[:200]}")
    places = {name: header.index(name) for name in wanted}
    for cells in reader:
        if len(cells) == len(header):
            yield reader.line_num, {name: cells[place] for name, place in places.items()}, ""
        elif cells:
            yield reader.line_num, {}, f"{len(cells)} fields where the header has {len(header)}"


def _json_records(text: io.TextIOBase, side: ExportSide) -> Iterator[_Record]:
    wanted = {name: _finder(name) for name in (side.key, side.status, side.at, *side.also)}
    for line, raw in enumerate(text, start=1):
        if not raw.strip():
            continue
        try:
            value = json.loads(raw, parse_float=str)
        except (ValueError, RecursionError):
            yield line, {}, "is no JSON"
            continue
        yield line, {name: find(value) for name, find in wanted.items()}, ""


def _finder(path: str) -> Callable[[Any], Any]:
    if path.isidentifier():
        return lambda value: value.get(path) if isinstance(value, dict) else None
    return jmespath.compile(path).search  # type: ignore[no-any-return]


def _row(
    side: ExportSide, line: int, values: Mapping[str, Any], fault: str, order: frozenset[str], zone: ZoneInfo
) -> ExportRow:
    key = _text(values.get(side.key)).strip()
    word = _text(values.get(side.status)).strip()
    also = [_text(values.get(name)).strip() for name in side.also]
    if not key:
        return ExportRow(line, "", word, 0.0, also, fault or f"no value in {side.key}")
    status = side.status_map.get(word, word)
    if status == word and word not in order and word not in side.status_map:
        return ExportRow(line, key, word, 0.0, also, f"status_map does not know the status {word!r}")
    at = moment_of(_text(values.get(side.at)).strip(), zone)
    if at is None:
        return ExportRow(line, key, status, 0.0, also, f"no time in {side.at}")
    return ExportRow(line, key, status, at, also, "")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def moment_of(text: str, zone: ZoneInfo) -> float | None:
    """Return seconds since 1970 of ISO 8601 or of seconds or milliseconds; None if it is neither."""
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not 0 < number < 1e14:
            return None
        return number / 1000 if number >= _MILLISECONDS_FROM else number
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        return None
