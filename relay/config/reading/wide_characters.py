"""Finds the characters of a Chinese keyboard that look like YAML's own: a full-width colon, an ideographic space.

They are letters to YAML, so it complains somewhere else, about something else.
"""

import re
import unicodedata
from typing import NamedTuple

_NAMES = {
    "\uff1a": ("a full-width colon (\uff1a, U+FF1A)", "':'"),
    "\uff0c": ("a full-width comma (\uff0c, U+FF0C)", "','"),
    "\u3000": ("an ideographic space (U+3000)", "a space"),
    "\u00a0": ("a no-break space (U+00A0)", "a space"),
    "\u201c": ("a curly quotation mark (\u201c, U+201C)", "'\"'"),
    "\u201d": ("a curly quotation mark (\u201d, U+201D)", "'\"'"),
}
_HINT = "switch the keyboard to half-width for the punctuation"
# A key with its colon, or white space around it. What stands in quotes or comments means itself.
_KEY = re.compile(
    r"^[ \t\u3000\u00a0]*(?:-[ \u3000\u00a0]+)*[{\[]?[\w.\u3000\u00a0-]*?(?P<wide>[\uff1a\u3000\u00a0\u201c])"
)
_AFTER = re.compile(r"[\w\"'](?::)(?P<wide>[\u3000\u00a0])")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|(?<![\w])\'[^\']*\'|(?:^|(?<=\s))#.*')
_FAR = 3  # lines: the mistake is above where YAML noticed


class Wide(NamedTuple):
    """Such a character, where it stands, and what was meant."""

    line: int
    col: int
    what: str
    wanted: str

    @property
    def hint(self) -> str:
        """What to do: a no-break space was pasted, the others were typed."""
        return "type a plain space" if "no-break" in self.what else _HINT


def wide_character(lines: list[str], line: int, first: int) -> Wide | None:
    """Return the one that explains a syntax error noticed in ``line`` about something begun in ``first``; else None."""
    for number in range(min(line, len(lines)), max(0, min(first, line) - _FAR), -1):
        bare = _QUOTED.sub(lambda found: "x" * len(found[0]), lines[number - 1])
        found = _KEY.match(bare) or _AFTER.search(bare)
        if found is not None:
            what, wanted = _NAMES[found["wide"]]
            return Wide(number, found.start("wide") + 1, what, wanted)
    return None


def plain(text: str) -> str:
    """Return a quantity with plain digits and signs in place of full-width ones, as a Chinese keyboard writes them."""
    return unicodedata.normalize("NFKC", text)


def wide_in(text: str) -> tuple[str, str] | None:
    """Return the name of the first such character in ``text`` and what was probably meant."""
    return next((_NAMES[each] for each in text if each in _NAMES), None)
