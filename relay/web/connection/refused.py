"""What is told of malformed HTTP: which bound a head exceeded, and nothing that it says.

Its bytes may be a body, read as a head.
"""

import logging
from collections.abc import Callable
from typing import Any

from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong

# Bounds of a head, a little above the most that common clients and proxies send (RFC 9112 section 3: 8000 or more).
# aiohttp has one error for both lengths; they differ so that it shows which one was exceeded.
MOST_TARGET_BYTES = 8190
MOST_LINE_BYTES = 8192
MOST_LINES = 128
_TOO_MANY = "Too many headers received"  # aiohttp has no type of its own for it


def too_long(error: BaseException | None) -> tuple[str, str] | None:
    """Return code and detail for a head that exceeds a bound; None for any other error."""
    if isinstance(error, LineTooLong):
        if error.args[1] == MOST_TARGET_BYTES:
            return "target_too_long", f"the request target is longer than {MOST_TARGET_BYTES} bytes"
        return "head_too_large", f"a header line is longer than {MOST_LINE_BYTES} bytes"
    if isinstance(error, BadHttpMessage) and error.message == _TOO_MANY:
        return "head_too_large", f"there are more than {MOST_LINES} header lines"
    return None


class ProtocolLog(logging.Logger):
    """Replaces the log of aiohttp's protocol, whose lines quote request bytes: malformed HTTP is only counted."""

    def __init__(self, *, refused: Callable[[str], None], failed: Callable[[str, BaseException], None]) -> None:
        super().__init__("relay.web", logging.WARNING)
        self._refused = refused
        self._failed = failed

    def handle(self, record: logging.LogRecord) -> Any:
        """Report the error of a record instead of writing the record."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            code, _ = too_long(error) or ("bad_request", "")
            self._refused(code)
        elif error is not None:
            self._failed("http", error)
