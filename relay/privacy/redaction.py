"""Takes known secrets out of answers: an error page may repeat our request, and our token with it.

Everything that is kept or shown of an answer goes through a ``Redactor``. It finds a secret in these forms:

* as it is, in any case of its letters
* in hexadecimal digits
* in base64, also as a part of a longer text that was encoded
* each of these broken over lines, as MIME breaks base64 after 76 characters
* with its special characters escaped as in a URL, in JSON or in HTML, once or twice
* cut off: the beginning of a secret at the end of a text
"""

import base64
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from relay.privacy.masking import HIDDEN, lowered

MIN_CHARS: Final = 4
"""Shorter secrets are left in the text, and shorter pieces at its end: they would hide parts of common words."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9]+")
_NAMED: Final = {'"': "quot", "&": "amp", "<": "lt", ">": "gt", "'": "apos"}
_LONGEST_ESCAPE: Final = 24  # of one character, escaped twice, such as %255Cu4F60
_OPENERS: Final = ("%", "\\", "&")
# A break within a text: a line end, or one escaped in JSON or a URL, or of HTML; and what indents the next line.
_BREAK: Final = re.compile(r"(?:[\r\n]|\\+[nr]|%(?:25)*0[ad]|<br ?/?>)+[ \t]*")
_BREAKS: Final = ("\n", "\r", "\\n", "\\r", "0a", "0d", "<br")
_LIVE: Final = 6  # tokens of one source that requests under way may still carry


class Redactor:
    """Knows secrets and takes them out of texts. It also takes out the secrets that ``of`` knows at that moment."""

    __slots__ = ("_live", "_needles", "_of", "_screen", "_secrets")

    def __init__(self, secrets: Iterable[str] = (), *, of: "Redactor | None" = None) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= MIN_CHARS}, key=len, reverse=True)
        self._live: list[str] = []
        self._of = of
        self._needles: tuple[_Needle, ...] | None = None  # made with the first text: a platform starts long before it
        self._screen: re.Pattern[str] | None = (
            None  # matches the beginning of each secret: nearly always one search shows that there is none
        )

    def learn(self, secret: str) -> None:
        """Know ``secret`` too, which comes into use now. The last six are known; an older one is forgotten."""
        if len(secret) >= MIN_CHARS and secret not in self._live:
            self._live = [*self._live, secret][-_LIVE:]
            self._needles = None

    def text(self, text: str) -> str:
        """Return ``text`` with every known secret in it as ``***``."""
        if len(text) < MIN_CHARS:
            return text
        if self._needles is None:
            self._needles = tuple(needle for secret in (*self._secrets, *self._live) for needle in _needles(secret))
            begins = {needle.begins: None for needle in self._needles}
            self._screen = re.compile("|".join(begins)) if begins else None
        if self._screen is not None:
            low = lowered(text)
            if self._screen.search(low) is not None:
                for needle in self._needles:
                    if spans := needle.spans(low):
                        text, low = _without(text, spans), _without(low, spans)
            if any(each in low for each in _BREAKS):
                joined = _BREAK.sub("", low)
                if self._screen.search(joined) is not None:
                    text = _without(text, _spans_across(self._needles, low, joined))
        return text if self._of is None else self._of.text(text)


class _Needle:
    """One form of a secret: letters and digits as they are, and special characters that have several forms."""

    __slots__ = ("_anchor", "_head", "_parts", "_span", "_whole", "begins")

    def __init__(self, secret: str, *, special: "dict[str, str] | None" = None, ends: str = "") -> None:
        secret = lowered(secret)
        parts = re.findall(r"[A-Za-z0-9]+|\s+|[\s\S]", secret)
        forms = [part if _PLAIN.fullmatch(part) else (special or {}).get(part) or _any_form(part) for part in parts]
        self._parts = [part if part == form else re.compile(form) for part, form in zip(parts, forms, strict=True)]
        runs = [part for part in self._parts if isinstance(part, str)]
        self._anchor = max(runs, key=len, default="")  # searched first: nearly always it is not there
        self._whole = re.compile("".join(forms) + ends)
        first = self._parts[0]
        self._head = first[:MIN_CHARS] if isinstance(first, str) else first
        self.begins = self._head if isinstance(self._head, str) else self._head.pattern
        self._span = len(secret) + _LONGEST_ESCAPE * (len(parts) - len(runs))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where this form stands in ``text``, which is in lower case; and its beginning at the end of it."""
        found = []
        if self._anchor in text:
            found = [each.span() for each in self._whole.finditer(text)]
        start = max(found[-1][1] if found else 0, len(text) - self._span)
        at, last = self._begins(text, start), len(text) - MIN_CHARS
        while 0 <= at <= last:
            if self._runs_out(text, at):
                return [*found, (at, len(text))]
            at = self._begins(text, at + 1)
        return found

    def _begins(self, text: str, start: int) -> int:
        if isinstance(self._head, str):
            return text.find(self._head, start)
        found = self._head.search(text, start)
        return -1 if found is None else found.start()

    def _runs_out(self, text: str, at: int) -> bool:
        """Return whether the secret begins at ``at`` and the text ends before the secret does."""
        for part in self._parts:
            if at == len(text):
                return True
            if isinstance(part, str):
                if not text.startswith(part, at):
                    return part.startswith(text[at:]) or _is_cut_escape(text, at)
                at += len(part)
            elif (found := part.match(text, at)) is not None:
                at = found.end()
            else:
                return _is_cut_escape(text, at)
        return False


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return ``text`` with ``***`` for each span; they are in order and apart."""
    parts: list[str] = []
    at = 0
    for start, end in spans:
        parts += (text[at:start], HIDDEN)
        at = end
    return "".join((*parts, text[at:]))


def _spans_across(needles: "Iterable[_Needle]", low: str, joined: str) -> list[tuple[int, int]]:
    """Return where in ``low`` stands what ``needles`` find in ``joined``, which is ``low`` without its breaks."""
    kept: list[int] = []  # where each character of ``joined`` stands in the text
    at = 0
    for found in _BREAK.finditer(low):
        kept += range(at, found.start())
        at = found.end()
    kept += range(at, len(low))
    spans: list[tuple[int, int]] = []
    for start, end in sorted(span for needle in needles for span in needle.spans(joined)):
        span = kept[start], kept[end - 1] + 1
        if spans and span[0] < spans[-1][1]:  # two forms overlap
            begin, last = spans.pop()
            span = begin, max(last, span[1])
        spans.append(span)
    return spans


def _is_cut_escape(text: str, at: int) -> bool:
    """Return whether the rest from ``at`` may be the beginning of an escape: ``&am``, or ``a`` of ``&amp;amp;``."""
    near = text[max(0, at - 8) : at + 1]
    return len(text) - at < _LONGEST_ESCAPE and any(opener in near for opener in _OPENERS) and " " not in text[at:]


@lru_cache(maxsize=256)  # the relay's own secrets belong to every platform
def _needles(secret: str) -> tuple[_Needle, ...]:
    in_hex = secret.encode("utf-8", "surrogatepass").hex()
    return _Needle(secret), _Needle(in_hex), *_in_base64(secret)


def _in_base64(secret: str) -> Iterable[_Needle]:
    encoded = secret.encode("utf-8", "surrogatepass")
    for before in (0, 1, 2):
        # Inside a longer text only the characters that do not depend on the bytes around the secret are sure. At the
        # end of a text the last character and the padding follow.
        whole = base64.b64encode(b"\0" * before + encoded).decode().rstrip("=")[(0, 2, 3)[before] :]
        stable = whole[:-1] if (before + len(encoded)) % 3 else whole
        if len(stable) >= MIN_CHARS:
            last = lowered(whole[len(stable) :])
            yield _Needle(stable, special=_BASE64, ends=f"(?:{re.escape(last)}{_PADDING})?" if last else _PADDING)


def _any_form(part: str) -> str:
    """Return a pattern for a special character: as it is, or escaped as in a URL, JSON or HTML, once or twice."""
    if part.isspace():
        return rf"(?:\s|\+|%(?:25)*(?:20|0[9ADad])|\\+[nrt]|\\+u00(?:20|0[9ADad])|{_html(' ')}|{_html(chr(10))})+"
    url = "".join(rf"%(?:25)*{_hex(byte, 2)}" for byte in part.encode("utf-8", "surrogatepass"))
    units = part.encode("utf-16-be", "surrogatepass")
    json = "".join(rf"\\+u{_hex(units[at] << 8 | units[at + 1], 4)}" for at in range(0, len(units), 2))
    return rf"(?:{url}|{json}|{_html(part)}|\\*{re.escape(part)})"


def _html(character: str) -> str:
    code = ord(character)
    forms = [f"#0*{code}", f"#[xX]0*{_hex(code, 1)}", *filter(None, [_NAMED.get(character)])]
    return rf"&(?:amp;)*(?:{'|'.join(forms)});"


def _hex(number: int, digits: int) -> str:
    return "".join(f"[{digit}{digit.lower()}]" if digit.isalpha() else digit for digit in f"{number:0{digits}X}")


_BASE64: Final = {"+": rf"(?:-|{_any_form('+')})", "/": rf"(?:_|{_any_form('/')})"}  # RFC 4648 section 5
_PADDING: Final = "(?:=|%(?:25)*3[Dd])*"
