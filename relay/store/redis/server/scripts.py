"""The scripts that run inside the server, each with its text and digest.

``lua/lib.lua`` stands before each; ``@NAME`` in them becomes the place of a field (``fields.py``).
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from relay.store.redis.server.fields import PLACES

_NAME = re.compile(r"@([A-Z_]+)")
_ADDING = frozenset(("accept", "place", "operate", "drain", "tell"))
_WHEN_FULL = "#!lua flags=allow-oom\n"  # what settles and prunes must run when the server has no room left
_TAKES_ROOM = frozenset(("accept", "stage", "drain"))


class Script(NamedTuple):
    """A script: its text, and the digest by which a server knows it."""

    text: str
    sha: str


def script_of(text: str) -> Script:
    """Return ``text`` as a script."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def platform_script(name: str, *, flags: bool = True) -> Script:
    """Return the script called ``name`` of a platform; ``flags``: the server knows those of scripts (7.0)."""
    folder = files("relay.store.redis") / "lua"
    parts = ["lib", *(("adding",) if name in _ADDING else ()), name]
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)
    text = _NAME.sub(lambda found: str(PLACES[found[1]]), text)
    return script_of((_WHEN_FULL if flags and name not in _TAKES_ROOM else "") + text)
