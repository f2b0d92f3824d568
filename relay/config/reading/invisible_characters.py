"""Finds what nobody sees in a secret, a key or an id: it is sent and signed with, and every signature is refused."""

import re
import unicodedata
from typing import Final

_QUOTES: Final = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "\u300c\u300d", "\uff02\uff02")
_NO_WIDTH: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_ODD_SPACE: Final = re.compile("[\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\t\x0b\x0c\x85]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\r]")


def trimmed(text: str) -> str:
    """Return a text without what editors and shells leave around it: a byte order mark, line ends. CRLF becomes LF."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\r\n")


def invisible_in(text: str) -> str:
    """Return what of ``text`` a person would not see, in words that hold nothing of it; empty for nothing."""
    if found := _NO_WIDTH.search(text):
        return f"has {_named(found[0])} in it, which has no width"
    if found := _CONTROL.search(text):
        return f"has the control character U+{ord(found[0]):04X} in it"
    if text[:1].isspace():
        return f"begins with {_named(text[0])}"
    if text[-1:].isspace():
        return f"ends with {_named(text[-1])}"
    if found := _ODD_SPACE.search(text):
        return f"has {_named(found[0])} in it"
    if len(text) > 1 and text[0] + text[-1] in _QUOTES:
        return "stands in quotes, which are taken as part of it"
    return ""


def _named(character: str) -> str:
    common = {" ": "a space", "\t": "a tab", "\n": "a line break", "\u00a0": "a non-breaking space"}
    name = unicodedata.name(character, "")
    return common.get(character) or (f"{name.lower()} (U+{ord(character):04X})" if name else f"U+{ord(character):04X}")
