"""What lists and operations mean by a filter: its keys, its times, and errors that name the key.

The same words from a query string, a JSON body and the command line.
"""

import difflib
import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from relay.config.problems import BadValue
from relay.config.reading.units import DURATION_PATTERN, parse_duration
from relay.core.model import Filter, State
from relay.core.raw import JsonObject
from relay.web.refusal import Refusal

KEYS = ("platform", "state", "key", "event", "reason", "code", "ids", "since", "until", "dropped")
STATES = tuple(state.word for state in State)
PAGE = 100
LARGEST_PAGE = 1000
_MOST_IDS = 10_000
_HELD = "held"
_GROUPED = (State.DEAD.word, State.EXPIRED.word, _HELD)

_FLAGS = {"1": True, "true": True, "0": False, "false": False, "": False}

_AGO = re.compile(DURATION_PATTERN)


class InvalidFilter(Refusal):
    """A filter that means nothing: 400 ``invalid_filter``."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__("invalid_filter", detail, key=key)


def parse(given: JsonObject, *, now: float, shift_s: float = 0.0) -> Filter:
    """Return the filter in ``given`` (texts, or JSON values), its times on the relay clock.

    Relative times count back from ``now``, on the relay clock too; ``shift_s`` is what the wall clock is ahead of it.
    """
    for key, value in given.items():
        if key not in KEYS:
            raise InvalidFilter(key[:80], f"unknown filter key '{key[:80]}'{did_you_mean(key, KEYS)}")
        if why := nothing_said(value):
            raise InvalidFilter(key, f"'{key}' {why}")
    state = _text(given, "state")
    if state is not None and state not in STATES:
        raise InvalidFilter("state", f"unknown state '{state[:80]}'{did_you_mean(state[:80], STATES)}")
    return Filter(
        platform=_text(given, "platform"),
        state=state,
        key=_text(given, "key"),
        event=_text(given, "event"),
        reason=_text(given, "reason"),
        code=_text(given, "code"),
        ids=_ids(given.get("ids")),
        since=_time(given, "since", now, shift_s),
        until=_time(given, "until", now, shift_s),
        dropped=_flag(given, "dropped"),
    )


def grouped(given: JsonObject, *, now: float, shift_s: float = 0.0) -> tuple[Filter, bool]:
    """Return the filter of a list of groups, as ``parse``, and whether it is about what is held.

    ``state`` is ``dead`` where it is left out; ``expired`` and ``held`` have groups too.
    """
    state = given.get("state", State.DEAD.word)
    if state not in _GROUPED:
        raise InvalidFilter("state", f"'state' is '{str(state)[:20]}': there are {', '.join(_GROUPED)}")
    held = state == _HELD
    return parse({**given, "state": State.PENDING.word if held else state}, now=now, shift_s=shift_s), held


def page_size(text: str | None) -> int:
    """Return the page size ``limit`` asks for."""
    if text is None:
        return PAGE
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise InvalidFilter("limit", f"limit must be a number from 1 to {LARGEST_PAGE}, not '{text[:20]}'")
    return int(text)


def nothing_said(value: Any) -> str:
    """Return what is wrong with a value that says nothing (null, an empty text or list), "" for one that does."""
    if value is None:
        return "is null: leave the key out, or give it a value"
    return "is empty: leave the key out, or give it a value" if value in ("", []) else ""


def given_out(cursor: str | None, query: JsonObject) -> str | None:
    """Return a store's ``cursor`` as the list that ``query`` asks for gives it out: with the mark of that list."""
    return None if cursor is None else f"{cursor}.{_mark(cursor, query)}"


def taken_back(text: str | None, query: JsonObject) -> str | None:
    """Return the store's cursor in ``text``. Raises 400 ``invalid_cursor`` unless this list gave it out.

    One of another list would skip callbacks without a word. Times may differ: an age means another one each time.
    """
    if text is None:
        return None
    cursor, _, mark = text.rpartition(".")
    if not re.fullmatch(r"h?[0-9]{1,18}", cursor) or mark != _mark(cursor, query):
        raise Refusal("invalid_cursor", "this list did not give out this cursor; start again without one")
    return cursor


def _mark(cursor: str, query: JsonObject) -> str:
    asked = sorted((key, str(value)) for key, value in query.items() if key not in ("since", "until"))
    return hashlib.blake2s(repr((cursor, asked)).encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def parse_time(text: str, *, now: float, shift_s: float = 0.0) -> float:
    """Return the seconds that ``text`` means: ISO 8601 (UTC unless it says otherwise) or an age such as ``2h``.

    Raises ``BadValue`` or ``ValueError``.
    """
    if _AGO.fullmatch(text):
        return now - parse_duration(text)
    # A '+' of an offset arrives as a space when a client forgot to percent-encode it.
    moment = datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text) if "T" in text else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - shift_s


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with the nearest of ``known``, else those there are."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; there are: {', '.join(known[:20])}" if known else ""


def _text(given: JsonObject, key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidFilter(key, f"'{key}' must be a string")
    return value


def _flag(given: JsonObject, key: str) -> bool:
    found = _FLAGS.get(str(given.get(key, "0")).lower())
    if found is None:
        raise InvalidFilter(key, f"'{key}' must be 1 or 0")
    return found


def _ids(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    ids = value.split(",") if isinstance(value, str) else value
    if not isinstance(ids, list) or not all(isinstance(each, str) and each for each in ids):
        raise InvalidFilter("ids", "'ids' must be callback ids: a list of strings, or separated by commas in a query")
    if not 1 <= len(ids) <= _MOST_IDS:
        raise InvalidFilter("ids", f"'ids' takes 1 to {_MOST_IDS} ids, not {len(ids)}")
    return tuple(ids)


def _time(given: JsonObject, key: str, now: float, shift_s: float) -> float | None:
    text = _text(given, key)
    if text is None:
        return None
    try:
        return parse_time(text, now=now, shift_s=shift_s)
    except (BadValue, ValueError, OverflowError) as error:
        raise InvalidFilter(
            key, f"'{key}' is '{text[:40]}': write an age such as 2h or a time such as 2026-11-22T10:02:11Z"
        ) from error
