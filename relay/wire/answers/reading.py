"""Reads an answer's body as text or JSON, once and only when asked; whatever the body is, that raises nothing.

Looking for paths in it is bounded: all that is looked for in one answer shares a number of steps (``BoundedSearch``).
"""

import json
from typing import Any, Final

import jmespath.exceptions

from relay.core.errors import Unfit
from relay.wire.answers.answer import Answer
from relay.wire.answers.charsets import UTF_8, decoder_of
from relay.wire.answers.json_path import JsonPath
from relay.wire.payload.extract import BoundedSearch, InvalidJson, parse_json

_EXCERPT_CHARS: Final = 500
_MOST_CHARS: Final = 8 * _EXCERPT_CHARS  # looked at for a line that is cut: the rest of a long text is not gone through
_UNREAD: Final = object()


class Reading:
    """An answer's status, headers and body, for rules to look into."""

    __slots__ = ("_document", "_search", "_text", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._search = BoundedSearch()
        self._text: str | None = None
        self._document: Any = _UNREAD

    def of_part(self, part: Any) -> "Reading":
        """Return a reading whose body is one part of the document: an entry of per-item results."""
        reading = Reading(self.answer)
        reading._search = self._search
        reading._document = part
        reading._text = part if isinstance(part, str) else as_json(part)
        return reading

    @property
    def text(self) -> str:
        """The body decoded by the charset it claims, or else as UTF-8; bytes that do not fit become U+FFFD."""
        if self._text is None:
            self._text = _decoded(self.answer, self.answer.body)
        return self._text

    @property
    def document(self) -> Any:
        """The body as JSON, or None when it is not JSON (a cut body never is)."""
        if self._document is _UNREAD:
            self._document = self._parse()
        return self._document

    def find(self, path: JsonPath, *, misfit: Any = None) -> Any:
        """Return what stands at ``path``, or None. Raises ``Unfit`` where that takes too many steps.

        ``misfit`` is returned where a function meets a value it does not take: ``length(code)`` on ``{"code": 7}``.
        """
        return self.find_in(self.document, path, misfit=misfit)

    def find_in(self, part: Any, path: JsonPath, *, misfit: Any = None) -> Any:
        """Return what stands at ``path`` in a part of the document, as ``find`` does."""
        try:
            return self._search.find(path.parsed, part)
        except jmespath.exceptions.JMESPathError:
            return misfit
        except RecursionError:
            raise Unfit("the answer is nested too deeply to be searched") from None

    def _parse(self) -> Any:
        answer = self.answer
        if not answer.complete:
            return None
        decoder, mark = decoder_of(answer.body, answer.headers.get("content-type", ""))
        try:
            if decoder == UTF_8:
                return parse_json(answer.body[mark:])
            return parse_json(self.text.encode("utf-8", "replace"))
        except InvalidJson:
            pass  # the label may be wrong: browsers and Go read JSON as UTF-8, with U+FFFD for what is none
        try:
            return parse_json(answer.body[mark:].decode("utf-8", "replace").encode())
        except InvalidJson:
            return None

    def excerpt(self) -> str:
        """Return the start of the body on one line of printable characters: for people, it may hold anything.

        A redirect is never followed, and its body says little: where it leads to stands before that.
        """
        # No charset takes more than 4 bytes per character.
        text = _decoded(self.answer, self.answer.body[: 4 * _EXCERPT_CHARS])[:_EXCERPT_CHARS]
        to = self.answer.headers.get("location", "") if 300 <= self.answer.status < 400 else ""
        return printable(f"to {to} {text}".rstrip() if to else text)


def as_json(value: Any) -> str:
    """Return a decoded JSON value as text again, for people and for rules that look at a text."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""


def printable(text: str) -> str:
    """Return ``text`` with every run of white space and unprintable characters as one space, cut to 500."""
    text = text[:_MOST_CHARS]
    if not text.isprintable():
        text = " ".join("".join([character if character.isprintable() else " " for character in text]).split())
    return text[:_EXCERPT_CHARS]


def _decoded(answer: Answer, part: bytes) -> str:
    decoder, mark = decoder_of(part, answer.headers.get("content-type", ""))
    return part[mark:].decode(decoder, errors="replace")
