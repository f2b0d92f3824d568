"""Reads an answer's body as text or JSON, once and only when asked; whatever the body is, nothing is raised."""

import json
from typing import Any, Final

from relay.wire.answer import Answer
from relay.wire.extract import InvalidJson, parse_json

_EXCERPT_CHARS: Final = 500
# Platforms answer in these; any other claim is read as UTF-8. A list, because Python's codecs include transforms.
_CHARSETS: Final = frozenset(
    {
        *("gbk", "gb2312", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr", "utf-16", "utf-16le", "utf-16be"),
        *("iso-8859-1", "iso-8859-2", "iso-8859-15", "latin1", "windows-1250", "windows-1251", "windows-1252"),
    }
)
_UNREAD: Final = object()


class Reading:
    """An answer's status, headers and body, for rules to look into."""

    __slots__ = ("_document", "_text", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._text: str | None = None
        self._document: Any = _UNREAD

    @classmethod
    def of_part(cls, answer: Answer, part: Any) -> "Reading":
        """Return a reading whose body is one part of the answer's document: an entry of per-item results."""
        reading = cls(answer)
        reading._document = part
        reading._text = part if isinstance(part, str) else as_json(part)
        return reading

    @property
    def text(self) -> str:
        """The body decoded by the charset it claims, or else as UTF-8; bytes that do not fit become U+FFFD."""
        if self._text is None:
            self._text = self.answer.body.decode(_charset(self.answer), errors="replace")
        return self._text

    @property
    def document(self) -> Any:
        """The body as JSON, or None when it is not JSON (a cut body never is)."""
        if self._document is _UNREAD:
            self._document = self._parse()
        return self._document

    def _parse(self) -> Any:
        if not self.answer.complete:
            return None
        try:
            if _charset(self.answer) == "utf-8":
                return parse_json(self.answer.body.removeprefix(b"\xef\xbb\xbf"))
            return parse_json(self.text.removeprefix("\ufeff").encode())
        except InvalidJson:
            return None

    def excerpt(self) -> str:
        """Return the start of the body on one line of printable characters: for people, it may hold anything."""
        # No charset takes more than 4 bytes per character.
        start = self.answer.body[: 4 * _EXCERPT_CHARS].decode(_charset(self.answer), errors="replace")
        return printable(start[:_EXCERPT_CHARS])


def as_json(value: Any) -> str:
    """Return a decoded JSON value as text again, for people and for rules that look at a text."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""


def printable(text: str) -> str:
    """Return ``text`` with every run of white space and unprintable characters as one space, cut to 500."""
    if not text.isprintable():
        text = " ".join("".join([character if character.isprintable() else " " for character in text]).split())
    return text[:_EXCERPT_CHARS]


def _charset(answer: Answer) -> str:
    """Return the charset the Content-Type claims if it is one we read, else UTF-8 (RFC 8259 section 8.1)."""
    content_type = answer.headers.get("content-type", "").lower()
    _, found, rest = content_type.partition("charset=")
    if not found:
        return "utf-8"
    name = rest.partition(";")[0].strip(" \t\"'")
    return name if name in _CHARSETS else "utf-8"
