"""Reads the times of rows: millions of them, most of which lie in the same minutes."""

from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

_MILLISECONDS_FROM = 1e11  # as seconds that is the year 5138
_PLAIN_LENGTH = 19  # 2026-11-29 02:40:00
_MOST_MINUTES = 200_000
_COMPACT = {14: "%Y%m%d%H%M%S", 8: "%Y%m%d"}  # by length; as numbers they would be in the year 2611, or in 1970
_SLASHED = ("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d")  # as spreadsheets write them


class Moments:
    """Reads times; those without a zone are in ``zone``."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._minutes: dict[str, float] = {}

    def read(self, text: str) -> float | None:
        """Return seconds since 1970 of ISO 8601 or of seconds or milliseconds; None if it is neither.

        Also of ``20261129024000`` and ``2026/11/29 2:40:00``.
        """
        if len(text) == _PLAIN_LENGTH and (start := self._minutes.get(text[:16])) is not None and text[16] == ":":
            seconds = text[17:]
            if seconds.isdecimal() and seconds < "60":
                return start + int(seconds)
        if (form := _COMPACT.get(len(text))) is not None and text.isdecimal():
            return self._of_local(text, form)
        try:
            number = float(text)
        except ValueError:
            return self._of_iso(text)
        if not 0 < number < 1e14:
            return None
        return number / 1000 if number >= _MILLISECONDS_FROM else number

    def _of_iso(self, text: str) -> float | None:
        try:
            read = datetime.fromisoformat(text) if "/" not in text else _slashed(text)
            if read.tzinfo is not None:
                return read.timestamp()
            at = read.replace(tzinfo=self._zone).timestamp()
        except (ValueError, OverflowError):
            return None
        if len(text) == _PLAIN_LENGTH and text[16] == ":":
            if len(self._minutes) >= _MOST_MINUTES:
                self._minutes.clear()
            self._minutes[text[:16]] = at - read.second
        return at

    def _of_local(self, text: str, form: str) -> float | None:
        try:
            return datetime.strptime(text, form).replace(tzinfo=self._zone).timestamp()
        except (ValueError, OverflowError):
            return None


def _slashed(text: str) -> datetime:
    """Return a time with slashes in its date, without a zone. Raises ``ValueError``."""
    for form in _SLASHED:
        with suppress(ValueError):
            return datetime.strptime(text, form)
    raise ValueError(text)
