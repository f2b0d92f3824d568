"""Splits a header that is a list of members with parameters, as the ``RateLimit`` family is (RFC 9651 section 3.1).

More forgiving than the RFC, which drops a whole field for one mistake: a member that makes no sense is its reader's to
skip. Linear in what is read, and no more is read than an honest platform writes.
"""

import re
from typing import Final

_MOST_CHARS: Final = 2048
_MOST_MEMBERS: Final = 32
# A string that never ends reaches to the end: looking for its end again at every later quote would be quadratic.
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|$)|[^",;]+|[,;]', re.ASCII | re.DOTALL)


def members(text: str) -> list[list[str]]:
    """Return each member as its parts, the value first and then the parameters (``name=value``), in their order.

    Commas and semicolons within a quoted string do not split. Of a longer header the members that are whole within
    the first 2,048 characters are returned, at most 32: half a number would be another number.
    """
    if len(text) > _MOST_CHARS:
        text = text[: max(text.rfind(",", 0, _MOST_CHARS), 0)]
    found: list[list[str]] = []
    parts = [""]
    for piece in _PIECE.findall(text):
        if piece == ",":
            found.append(parts)
            parts = [""]
            if len(found) == _MOST_MEMBERS:
                break
        elif piece == ";":
            parts.append("")
        else:
            parts[-1] += piece
    else:
        found.append(parts)
    return [stripped for parts in found if any(stripped := [part.strip(" \t") for part in parts])]
