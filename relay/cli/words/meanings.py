"""The meaning of every code and reason that the relay tells: of the configuration, of the APIs, of a callback's end.

``meanings.json`` beside this module holds ``{group: {code: [meaning, what to do]}}``, ``meanings.zh-CN.json`` the same
in Chinese; docs/config-errors.md has the English words for the configuration.
"""

import json
import re
from difflib import get_close_matches
from importlib.resources import files

from msgspec import Struct

from relay.cli.words.sentences import say

_CONFIG = re.compile(r"[EW]\d{3}", re.IGNORECASE)
_NO_ID = re.compile(r"[_:\s-]")  # no callback's id holds one of these


class MeaningView(Struct, frozen=True, kw_only=True):
    """A code in words."""

    code: str
    group: str  # config, problem, reason
    meaning: str
    todo: str


def known_codes(language: str = "en") -> dict[str, MeaningView]:
    """Return every code with its meaning in ``language`` (``en``, ``zh-CN``), in the order of the file."""
    name = "meanings.json" if language == "en" else f"meanings.{language}.json"
    groups = json.loads((files(__package__) / name).read_text(encoding="utf-8"))
    return {
        code: MeaningView(code=code, group=group, meaning=meaning, todo=todo)
        for group, codes in groups.items()
        for code, (meaning, todo) in codes.items()
    }


def meaning_of(text: str, known: dict[str, MeaningView]) -> MeaningView | None:
    """Return what a code or a reason means, None for an unknown one.

    A reason may be as it was shown: ``rejected: errcode=45011`` is ``rejected``.
    """
    for candidate in (text, text.upper(), text.lower(), text.partition(":")[0].strip().lower()):
        if candidate in known:
            return known[candidate]
    return None


def is_no_id(text: str) -> bool:
    """Tell whether a text can only be meant as a code: no callback has such an id."""
    return bool(_CONFIG.fullmatch(text) or _NO_ID.search(text))


def nearest(text: str, known: dict[str, MeaningView]) -> str:
    """Return a hint for an unknown code: `` (did you mean 'store_full'?)``, or nothing."""
    close = get_close_matches(text.lower(), [code for code in known if not _CONFIG.fullmatch(code)], 1)
    return say("; did you mean '{name}'?", name=close[0]) if close else ""
