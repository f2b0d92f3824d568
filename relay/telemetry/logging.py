"""Log lines: structlog straight to bytes, JSON for machines and colours for a terminal.

This is also the last guard of I15. Values under names that could hold a payload or a secret are withheld. Control
characters are escaped. Of what libraries log through the standard ``logging`` only the fixed words remain, because
aiohttp and asyncio put request bytes and argument values into their messages.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from relay.core.clock import wall_s
from relay.core.unsafe import IN_JSON, ON_TERMINAL, escaped
from relay.telemetry.failure import describe
from relay.telemetry.sink import LineSink

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_PRIORITY = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>"}  # syslog(3)

_WITHHELD = "[withheld]"
# Names under which a payload or a secret might be logged by mistake. "key" is the ordering key, often the order number
# of a person.
_PRIVATE = frozenset(
    (
        *("payload", "payloads", "body", "content", "data", "excerpt", "response", "request", "headers", "cookie"),
        *("authorization", "token", "access_token", "refresh_token", "secret", "secrets", "client_secret", "password"),
        *("passwd", "api_key", "signature", "key", "keys", "credentials"),
    )
)
# A library's message has fixed words up to its first value: "Exception in callback f(b'...')", "future: <Task ...>".
_FIRST_VALUE = re.compile(r"[(<{\[\n'\":=]")


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Return whether ``descriptor`` leads to systemd's journal.

    ``$JOURNAL_STREAM`` has device and inode of the journal's socket (systemd.exec(5)). Both are compared: a process
    whose output goes elsewhere inherits the variable too.
    """
    try:
        about = os.fstat(descriptor)
    except OSError:  # it is closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


_EVENT_COLUMNS = 16  # of a terminal's 80: longer names of events are few


def make_logger(
    *, file: BinaryIO, level: str = "info", colours: bool = False, priorities: bool = False
) -> FilteringBoundLogger:
    """Return a logger writing to ``file``: JSON lines, or coloured text where ``colours`` (a terminal).

    ``level`` is one of ``LEVELS``; a call below it does nothing. With ``priorities`` a JSON line begins with ``<N>``.
    The journal removes that and keeps it as the priority of the line (sd-daemon(3)), for ``journalctl -p warning``.
    """
    if colours:
        console = structlog.dev.ConsoleRenderer(
            colors=True, sort_keys=False, pad_event_to=_EVENT_COLUMNS, pad_level=False
        )
        escape, stamp, renderers = ON_TERMINAL, _time_of_day, [console, _encode]
    else:
        escape, stamp, renderers = IN_JSON, _timestamp, [_prioritised if priorities else _json]
    processors = [structlog.processors.add_log_level, stamp, withhold, _escaper(escape), *renderers]
    sink = LineSink(file)
    wrapped = structlog.wrap_logger(
        sink,
        processors=cast(list[Processor], processors),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
    )
    log = cast(FilteringBoundLogger, wrapped.bind())
    sink.report_dropped = lambda count: log.error("log_lines_dropped", lines=count)
    return log


def withhold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace values under names that could mean a payload or a secret, and bytes under any name."""
    for name, value in event.items():
        if name in _PRIVATE or isinstance(value, bytes | bytearray | memoryview):
            event[name] = _WITHHELD
        elif isinstance(value, dict):
            event[name] = {
                inner: _WITHHELD if str(inner).lower() in _PRIVATE or isinstance(held, bytes) else held
                for inner, held in value.items()
            }
    return event


def _timestamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    stamp = datetime.fromtimestamp(wall_s(), tz=UTC)
    # The fields of every line come first, so that they stand in columns.
    first = {"timestamp": stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    return {**first, "level": event.pop("level"), "event": event.pop("event"), **event}


def _time_of_day(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the time first as a person at a terminal reads it: local, without the day."""
    stamp = datetime.fromtimestamp(wall_s())
    return {"timestamp": stamp.isoformat(timespec="milliseconds")[11:], **event}


def _escaper(unsafe: re.Pattern[str]) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return value if value.isprintable() else escaped(value, unsafe)
        if isinstance(value, dict):
            return {clean(name): clean(held) for name, held in value.items()}
        if isinstance(value, list | tuple):
            return [clean(held) for held in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return f"<{type(value).__name__}>"  # only the type: its repr could hold anything

    def escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {name: clean(value) for name, value in event.items()}

    return escape


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return msgspec.json.encode(event)


def _prioritised(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    return _PRIORITY.get(event["level"], b"<3>") + _json(logger, method, event)


def _encode(_logger: WrappedLogger, _method: str, text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


class _Bridge(logging.Handler):
    """Passes on what libraries log, without the values in their messages."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        words = _FIRST_VALUE.split(str(record.msg), maxsplit=1)[0].split("%", 1)[0].strip()
        facts: dict[str, Any] = {"logger": record.name, "message": words[:120]}
        if record.exc_info and record.exc_info[1] is not None:
            facts.update(describe(record.exc_info[1]))
        self._log.log(min(record.levelno, logging.ERROR), "library", **facts)


def bridge_stdlib(log: FilteringBoundLogger, *, level: str = "warning") -> Callable[[], None]:
    """Send to ``log`` what Python writes by itself: the standard ``logging`` from ``level`` on, warnings, lost errors.

    Otherwise each would go to standard error, where a reader that has stopped would hold up the whole process. Returns
    a function that undoes it.
    """

    def unraisable(found: "sys.UnraisableHookArgs") -> None:
        log.error("library", message="an error where none can be raised", **describe(found.exc_value or Exception()))

    root = logging.getLogger()
    handlers, before = root.handlers[:], root.level
    bridge = _Bridge(log)
    root.handlers[:] = [bridge]
    root.setLevel(LEVELS[level])
    logging.captureWarnings(True)
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    raising, logging.raiseExceptions = logging.raiseExceptions, False

    def undo() -> None:
        logging.captureWarnings(False)
        sys.unraisablehook, logging.raiseExceptions = hook, raising
        if bridge in root.handlers:
            root.handlers[:] = handlers
            root.setLevel(before)

    return undo
