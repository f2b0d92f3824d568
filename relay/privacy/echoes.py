"""Takes what a payload holds out of texts that may repeat it, such as a platform's answer.

A platform may write a value in other ways than it got it. It is found in these:

* in capital or small letters
* escaped as in JSON, a URL or HTML, also once more: a JSON text in a JSON text
* cut off, by the end of the text or by the platform
"""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from relay.privacy.masking import HIDDEN, lowered, mask_inside

_BOUNDED_CHARS: Final = 6  # shorter values are replaced as whole words alone: `paid` is no part of `prepaid`
_LEAST_CHARS: Final = 2  # of a value: a Chinese name has two
_LEAST_DIGITS: Final = 3  # fewer are counts and codes, and in every text
_CUT_CHARS: Final = 4  # of a value that the end of the text cut off
_SHORTENED_CHARS: Final = 6  # of one that the platform shortened, and half of it at least
_JSON_ESCAPE: Final = re.compile(
    r"\\+(?:u([0-9A-Fa-f]{4})|([\"/nrt]))"
)  # of any depth: each one doubles the backslashes
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t"}
_CUT_ESCAPE: Final = re.compile(r"(?:\\+(?:u[0-9A-Fa-f]{0,3})?|%[0-9A-Fa-f]?|&(?:#?[0-9A-Za-z]{0,7}))\Z")


def without_values(payloads: Iterable[bytes]) -> Callable[[str], str]:
    """Return what shows a text without any value of ``payloads``, and with recognised numbers in it masked.

    Where a value is escaped in a way that hides it, the text is shown with its escapes resolved.
    """
    forms = _forms(value for payload in payloads for value in _values(payload))

    def shown(text: str) -> str:
        plain = mask_inside(_without(text, forms))
        resolved = _resolved(text)
        if resolved == text:
            return plain
        deep = mask_inside(_without(resolved, forms))
        as_it_was = resolved if resolved.isascii() else unicodedata.normalize("NFKC", resolved)
        return plain if deep in (as_it_was, _resolved(plain)) else deep

    return shown


def _values(payload: bytes) -> Iterator[str]:
    """Return every text and number of a payload: JSON, or a form; of anything else the whole."""
    try:
        yield from _leaves(msgspec.json.decode(payload))
        return
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = payload.decode("utf-8", "replace")
    fields = [value for _, value in parse_qsl(text)]
    yield from fields or [text]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _resolved(text: str) -> str:
    """Return a text with its escapes resolved, and without one that its end cut off."""
    if not any(sign in text for sign in "\\%&"):
        return text
    text = _JSON_ESCAPE.sub(_character, _CUT_ESCAPE.sub("", text))
    for _ in range(2):
        text = html.unescape(unquote(text, errors="replace"))
    return text.rstrip("\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _CONTROLS.get(found[2], found[2])


def _without(text: str, forms: Iterable["_Form"]) -> str:
    """Return ``text`` without what is written in one of ``forms``."""
    found = _Text(text)
    for form in forms:
        form.take_out_of(found)
    return found.text


class _Text:
    """A text from which parts are taken, beside itself in lower case, in which they are found."""

    __slots__ = ("low", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.low = lowered(text)

    def hide(self, start: int, end: int) -> int:
        """Put ``***`` in the place of a part; return where that ends."""
        self.text = f"{self.text[:start]}{HIDDEN}{self.text[end:]}"
        self.low = f"{self.low[:start]}{HIDDEN}{self.low[end:]}"
        return start + len(HIDDEN)


class _Form:
    """One way to write a value: as it is, escaped as in JSON or escaped as in a URL."""

    __slots__ = ("_begins", "_bounded", "_low")

    def __init__(self, low: str) -> None:
        """``low`` is in lower case."""
        self._low = low
        self._begins = low[: _CUT_CHARS if low.isascii() else _LEAST_CHARS]
        self._bounded = low.isascii() and len(low) < _BOUNDED_CHARS

    def take_out_of(self, found: _Text) -> None:
        """Hide this value in a text, and its beginning where the text or the value was cut off."""
        if self._begins not in found.low:
            return
        at = 0
        if self._bounded:
            whole = re.compile(rf"(?<![0-9a-z]){re.escape(self._low)}(?![0-9a-z])")
            while (word := whole.search(found.low, at)) is not None:
                at = found.hide(*word.span())
            return
        while (at := found.low.find(self._low, at)) >= 0:
            at = found.hide(at, at + len(self._low))
        self._shortened(found)
        low = found.low
        at = low.find(self._begins, max(0, len(low) - len(self._low) + 1))
        while at >= 0:
            if self._low.startswith(low[at:]):
                found.hide(at, len(low))
                return
            at = low.find(self._begins, at + 1)

    def _shortened(self, found: _Text) -> None:
        """Hide long beginnings of this value: ``13812345`` of 13812345678, and nothing of 13812345999."""
        least = max(_SHORTENED_CHARS, len(self._low) // 2)
        at = found.low.find(self._low[:least])
        while at >= 0 and len(self._low) > least:
            low, end = found.low, at + least
            while end < len(low) and end - at < len(self._low) and low[end] == self._low[end - at]:
                end += 1
            if end == len(low) or not found.text[end].isalnum():
                end = found.hide(at, end)
            at = found.low.find(self._low[:least], end)


def _forms(values: Iterable[str]) -> list[_Form]:
    """Return the forms of every value that tells something, the longest first: one may be part of another."""
    written: set[str] = set()
    for value in values:
        plain = value.strip()
        if len(plain) >= (_LEAST_DIGITS if plain.isdigit() else _LEAST_CHARS):
            written |= {lowered(form) for form in (plain, json.dumps(plain)[1:-1], quote(plain, safe=""))}
    return [_Form(form) for form in sorted(written, key=len, reverse=True)]
