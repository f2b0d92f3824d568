"""Log lines: facts straight to bytes, JSON for machines and structlog's colours for a terminal.

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
from typing import Any, BinaryIO

import msgspec

from relay.core.clock import wall_s
from relay.core.unsafe import IN_JSON, ON_TERMINAL, escaped
from relay.telemetry.failure import describe
from relay.telemetry.leveled import Facts, LeveledLog
from relay.telemetry.sink import LineSink

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


def make_logger(*, file: BinaryIO, level: str = "info", colours: bool = False, priorities: bool = False) -> LeveledLog:
    """Return a logger writing to ``file``: JSON lines, or coloured text where ``colours`` (a terminal).

    ``level`` is one of ``leveled.LEVELS``; a call below it does nothing. With ``priorities`` a JSON line begins with
    ``<N>``. The journal removes that and keeps it as the line's priority (sd-daemon(3)), for ``journalctl -p warning``.
    """
    sink = LineSink(file)
    render = _on_terminal() if colours else _prioritised if priorities else _json
    log = LeveledLog(sink.msg, render, level=level)
    sink.report_dropped = lambda count: log.error("log_lines_dropped", lines=count)
    return log


def _json(facts: Facts) -> bytes:
    stamp = datetime.fromtimestamp(wall_s(), tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode({"timestamp": stamp, **_clean(facts, IN_JSON)})


def _prioritised(facts: Facts) -> bytes:
    return _PRIORITY[facts["level"]] + _json(facts)


def _on_terminal() -> Callable[[Facts], bytes]:
    """Return what renders as a person at a terminal reads it: the local time without the day first, in colours."""
    from structlog.dev import ConsoleRenderer  # with it comes rich, which only a terminal needs

    console = ConsoleRenderer(colors=True, sort_keys=False, pad_event_to=_EVENT_COLUMNS, pad_level=False)

    def render(facts: Facts) -> bytes:
        stamp = datetime.fromtimestamp(wall_s()).isoformat(timespec="milliseconds")[11:]
        text = console(None, facts["level"], {"timestamp": stamp, **_clean(facts, ON_TERMINAL)})
        return text.encode("utf-8", "backslashreplace")

    return render


def _clean(facts: Facts, unsafe: re.Pattern[str]) -> Facts:
    """Return the facts as they may be written: the private ones withheld, the unsafe characters of others escaped."""
    return {name: _escaped(value, unsafe) for name, value in _withhold(facts).items()}


def _withhold(facts: Facts) -> Facts:
    """Replace values under names that could mean a payload or a secret, and bytes under any name."""
    for name, value in facts.items():
        if name in _PRIVATE or isinstance(value, bytes | bytearray | memoryview):
            facts[name] = _WITHHELD
        elif isinstance(value, dict):
            facts[name] = {
                inner: _WITHHELD if str(inner).lower() in _PRIVATE or isinstance(held, bytes) else held
                for inner, held in value.items()
            }
    return facts


def _escaped(value: Any, unsafe: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else escaped(value, unsafe)
    if isinstance(value, dict):
        return {_escaped(name, unsafe): _escaped(held, unsafe) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(held, unsafe) for held in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return f"<{type(value).__name__}>"  # only the type: its repr could hold anything


class _Bridge(logging.Handler):
    """Passes on what libraries log, without the values in their messages."""

    def __init__(self, log: LeveledLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        words = _FIRST_VALUE.split(str(record.msg), maxsplit=1)[0].split("%", 1)[0].strip()
        facts: dict[str, Any] = {"logger": record.name, "message": words[:120]}
        if record.exc_info and record.exc_info[1] is not None:
            facts.update(describe(record.exc_info[1]))
        tell = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        tell("library", **facts)


def bridge_stdlib(log: LeveledLog) -> Callable[[], None]:
    """Send to ``log`` what Python writes by itself: the standard ``logging`` from warnings on, lost errors.

    Otherwise each would go to standard error, where a reader that has stopped would hold up the whole process. Returns
    a function that undoes it.
    """

    def unraisable(found: "sys.UnraisableHookArgs") -> None:
        log.error("library", message="an error where none can be raised", **describe(found.exc_value or Exception()))

    root = logging.getLogger()
    handlers, before = root.handlers[:], root.level
    bridge = _Bridge(log)
    root.handlers[:] = [bridge]
    root.setLevel(logging.WARNING)
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
