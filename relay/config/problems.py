"""What can be wrong with a configuration file: stable codes, one ``Problem`` per mistake, all raised together."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import NamedTuple

from relay.core.errors import ConfigUnusable
from relay.core.unsafe import ON_TERMINAL, escaped

MOST_PROBLEMS = 1000  # nobody reads on; what a foreign text is answered with stays bounded
_MOST_NAMES = 200  # compared with a misspelled one: a millisecond or two
_SHOWN_NAMES = 20

CODES: dict[str, str] = {
    # E00x: the file itself
    "E001": "the file cannot be read",
    "E002": "the file is not UTF-8 text",
    "E003": "the file is not well-formed YAML",
    "E004": "the file holds no settings",
    "E005": "a key stands twice in one mapping",
    "E006": "the file is too large, too deep, or expands too far",
    "E007": "a YAML feature the relay does not read",
    "E008": "the format version is not known",
    "E009": "there are more mistakes than are listed",
    # E01x: the shape
    "E010": "unknown key",
    "E011": "a required key is missing",
    "E013": "the value has the wrong type",
    "E014": "the key has no value",
    "E015": "the value is not one of the choices",
    "E016": "the number is out of range",
    # E02x: values with a form of their own
    "E020": "not a rate",
    "E021": "not a duration",
    "E022": "not a size",
    "E023": "not a range of durations",
    "E024": "not a usable URL",
    "E025": "not a listening address",
    "E026": "not a usable name",
    "E027": "not a JMESPath expression",
    "E028": "not a regular expression",
    "E029": "not a usable header",
    "E030": "not a usable classify rule",
    "E031": "not a text the relay can use here",
    "E032": "not a usable signature",
    "E033": "not a usable credential",
    "E034": "not a usable connection setting",
    "E035": "not a usable include",
    # E04x: references to secrets
    "E040": "a reference cannot be resolved",
    "E041": "not a reference the relay knows",
    # E05x: settings that contradict each other
    "E050": "an unknown quota is named",
    "E051": "two settings contradict each other",
    "E052": "an address, a user or a token is used twice",
    "E053": "there are no platforms",
    "E054": "the listener would be open to others",
    "E055": "an unknown credential is named",
    "E056": "a rule can never match",
    "E057": "an unknown view is named",
    # E06x: which callbacks are for whom
    "E060": "not a usable route",
    "E061": "not a usable path",
    "E062": "an unknown platform is named",
    "E063": "a path is taken already",
    "E064": "a route can never match",
    # E07x: alerts
    "E070": "an unknown alert target is named",
    "E071": "an unknown alert rule is named",
    "E072": "a library that a setting needs is not installed",
    # W0xx: worth knowing; the file is used all the same
    "W001": "credentials in a URL",
    "W002": "a secret is written in the file",
    "W003": "a quota is not used",
    "W004": "a secret travels unencrypted",
    "W005": "accepted payloads may be too large for the platform",
    "W006": "the listener is open to others",
    "W007": "rotated refresh tokens are lost at a restart",
    "W008": "a credential is not used",
    "W009": "a quota per group without groups",
    "W010": "a key is not used with another setting",
    "W011": "a value has something in it that nobody sees",
    "W012": "ingest and admin share a token",
    "W013": "a value is hardly meant",
    "W014": "a path of a view can never decide",
    "W015": "an include names no file",
}
"""Every code and what it stands for. A code never changes its meaning; docs/config-errors.md explains each."""


class Problem(NamedTuple):
    """One mistake and where it stands; ``line`` and ``col`` count from 1."""

    file: str
    line: int
    col: int
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return ``file:line:col: code message; hint``, the form editors and terminals can jump to."""
        said = f"{self.file}:{self.line}:{self.col}: {self.code} {self.message}"
        return escaped(f"{said}; {self.hint}" if self.hint else said, ON_TERMINAL)


class ConfigInvalid(ConfigUnusable):
    """The configuration cannot be used. ``problems`` holds all of them, file by file in the order of each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = sorted(set(problems), key=lambda p: (p.file, p.line, p.col, p.code, p.message))
        if len(found) > MOST_PROBLEMS:
            last = found[MOST_PROBLEMS]
            found[MOST_PROBLEMS:] = [
                Problem(last.file, last.line, last.col, "E009", "more mistakes follow", "mend these")
            ]
        self.problems: tuple[Problem, ...] = tuple(found)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class BadValue(ValueError):
    """A single value cannot be read; becomes a ``Problem`` once its place in the file is known.

    ``offset`` is the column inside the value where the mistake stands, ``at`` the path to it inside a mapping or list.
    """

    def __init__(
        self, code: str, message: str, hint: str = "", *, offset: int = 0, at: tuple[str | int, ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.offset = offset
        self.at = at


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown ``word``: the nearest of ``known``, else what there is."""
    names = list(islice(known, _MOST_NAMES))
    close = get_close_matches(word, names, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known are {', '.join(names[:_SHOWN_NAMES])}{', ...' if len(names) > _SHOWN_NAMES else ''}" if names else ""


def quoted(value: object) -> str:
    """Return a value for a message: bounded, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int | float):
        return str(value) if abs(value) < 10**30 else "a very large number"
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")
