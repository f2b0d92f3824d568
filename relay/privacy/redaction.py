"""Takes known secrets out of answers: an error page may repeat our request, and our token with it.

Everything that is kept or shown of an answer goes through a ``Redactor``. It finds a secret in these forms:

* as it is
* in base64, also as a part of a longer text that was encoded
* with its special characters escaped as in a URL, in JSON or in HTML, once or twice
* cut off: the beginning of a secret at the end of a text
"""

import base64
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

HIDDEN: Final = "***"
MIN_CHARS: Final = 4
"""Shorter secrets are left in the text, and shorter pieces at its end: they would hide parts of common words."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9]+")
_NAMED: Final = {'"': "quot", "&": "amp", "<": "lt", ">": "gt", "'": "apos"}
_LONGEST_ESCAPE: Final = 24  # of one character, escaped twice, such as %255Cu4F60
_OPENERS: Final = ("%", "\\", "&")
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
        if self._screen is not None and self._screen.search(text) is not None:
            for needle in self._needles:
                text = needle.taken_out_of(text)
        return text if self._of is None else self._of.text(text)


class _Needle:
    """One form of a secret: letters and digits as they are, and special characters that have several forms."""

    __slots__ = ("_anchor", "_head", "_parts", "_span", "_whole", "begins")

    def __init__(self, secret: str, *, special: "dict[str, str] | None" = None, ends: str = "") -> None:
        parts = re.findall(r"[A-Za-z0-9]+|\s+|[\s\S]", secret)
        forms = [part if _PLAIN.fullmatch(part) else (special or {}).get(part) or _any_form(part) for part in parts]
        self._parts = [part if part == form else re.compile(form) for part, form in zip(parts, forms, strict=True)]
        runs = [part for part in self._parts if isinstance(part, str)]
        self._anchor = max(runs, key=len, default="")  # searched first: nearly always it is not there
        self._whole = None if self._anchor == secret and not ends else re.compile("".join(forms) + ends)
        first = self._parts[0]
        self._head = first[:MIN_CHARS] if isinstance(first, str) else first
        self.begins = self._head if isinstance(self._head, str) else self._head.pattern
        self._span = len(secret) + _LONGEST_ESCAPE * (len(parts) - len(runs))

    def taken_out_of(self, text: str) -> str:
        """Return ``text`` without this form, and without its beginning at the end of the text."""
        if self._anchor in text:
            text = text.replace(self._anchor, HIDDEN) if self._whole is None else self._whole.sub(HIDDEN, text)
        at, last = self._begins(text, max(0, len(text) - self._span)), len(text) - MIN_CHARS
        while 0 <= at <= last:
            if self._runs_out(text, at):
                return text[:at] + HIDDEN
            at = self._begins(text, at + 1)
        return text

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


def _is_cut_escape(text: str, at: int) -> bool:
    """Return whether the rest from ``at`` may be the beginning of an escape: ``&am``, or ``a`` of ``&amp;amp;``."""
    near = text[max(0, at - 8) : at + 1]
    return len(text) - at < _LONGEST_ESCAPE and any(opener in near for opener in _OPENERS) and " " not in text[at:]


@lru_cache(maxsize=256)  # the relay's own secrets belong to every platform
def _needles(secret: str) -> tuple[_Needle, ...]:
    return _Needle(secret), *_in_base64(secret)


def _in_base64(secret: str) -> Iterable[_Needle]:
    encoded = secret.encode("utf-8", "surrogatepass")
    for before in (0, 1, 2):
        # Inside a longer text only the characters that do not depend on the bytes around the secret are sure. At the
        # end of a text the last character and the padding follow.
        whole = base64.b64encode(b"\0" * before + encoded).decode().rstrip("=")[(0, 2, 3)[before] :]
        stable = whole[:-1] if (before + len(encoded)) % 3 else whole
        if len(stable) >= MIN_CHARS:
            last = whole[len(stable) :]
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
