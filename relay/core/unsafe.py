"""Escapes characters that could change what a person sees on a terminal or in a log."""

import re
from typing import Final

# JSON itself escapes C0. These can still drive a terminal: DEL and C1 (U+009B is CSI), line and paragraph separators,
# direction marks and overrides, characters without width, tags. A lone surrogate cannot be encoded at all.
_MARKS: Final = "\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
_ABOVE_C0: Final = _MARKS + "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
IN_JSON: Final = re.compile(f"[{_ABOVE_C0}]")
"""What JSON text may not hold as it is; outside a string none of it is JSON anyway."""
ON_TERMINAL: Final = re.compile(f"[\x00-\x1f{_ABOVE_C0}]")
"""What a line for a person may not hold."""


def escaped(text: str, unsafe: re.Pattern[str] = IN_JSON) -> str:
    """Return ``text`` with unsafe characters escaped as in JSON: ``\\u202e``, above U+FFFF as two escapes."""
    return text if text.isascii() and "\x7f" not in text and unsafe is IN_JSON else unsafe.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
