"""Callbacks with their payloads as a file: JSON lines or CSV. What of them is seen, the caller's view has decided.

The first line says who made it, when and of what: ``{"export": {...}}``, or a comment ``# export ...`` in CSV.
"""

import csv
import io
import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from relay.core.raw import JsonObject

COLUMNS: Final = (
    "id", "platform", "state", "key", "event", "priority", "group", "accepted_at", "ended_at", "attempts", "held",
    "maybe_applied", "reason", "code", "message", "bytes", "payload_form", "payload",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # owasp.org/www-community/attacks/CSV_Injection


class Form(Protocol):
    """How an export is written."""

    content_type: str
    ending: str

    def head(self, about: JsonObject) -> bytes:
        """Return what stands before the first callback."""
        ...

    def row(self, callback: JsonObject) -> bytes:
        """Return one callback."""
        ...


class JsonLines:
    """One JSON object a line."""

    content_type = "application/x-ndjson"
    ending = "jsonl"

    def head(self, about: JsonObject) -> bytes:
        """Return the line that says who, when and of what."""
        return _line({"export": about})

    def row(self, callback: JsonObject) -> bytes:
        """Return one callback."""
        return _line({name: callback.get(name) for name in COLUMNS})


class Csv:
    """A comment, a line of names, then a callback a line; its payload as JSON. No cell is a formula."""

    content_type = "text/csv; charset=utf-8"
    ending = "csv"

    def head(self, about: JsonObject) -> bytes:
        """Return the comment and the names."""
        return b"# export " + _line(about) + _row(COLUMNS)

    def row(self, callback: JsonObject) -> bytes:
        """Return one callback."""
        return _row([_cell(name, callback.get(name)) for name in COLUMNS])


FORMS: Final[dict[str, Callable[[], Form]]] = {"jsonl": JsonLines, "csv": Csv}


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _row(cells: Any) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue().encode("utf-8", "replace")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "payload" or isinstance(value, bool):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
