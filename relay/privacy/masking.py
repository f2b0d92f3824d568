"""How a payload is shown to people: masked unless the viewer may see it.

JSON keeps its structure and its keys, so that a person can still tell what kind of callback it is; values are masked.
Mobile numbers keep 3 + 4 digits (138****5678), identity and card numbers 6 + 4, which is the usual library rule and
PCI DSS 3.4's for cards; of anything else the first character stays. Text is compared in NFKC, so full-width digits
are masked like plain ones.
"""

import base64
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import msgspec

_MOBILE = re.compile(r"(?:\+86|0086|86)?(1[3-9]\d)\d{4}(\d{4})")  # mainland China, the country code optional
_LONG_NUMBER = re.compile(r"(\d{6})\d{5,}(\d{3}[\dXx])")  # identity numbers (15 or 18, the last may be X), bank cards
_SEPARATORS = str.maketrans("", "", " -")
_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Shown:
    """A payload as an answer carries it.

    ``form`` says what ``payload`` is: ``masked`` (JSON with masked values), ``hidden`` (None: not JSON, so only its
    length is shown), ``json`` (the bytes as they came, spliced in), ``text`` or ``base64``.
    """

    form: str
    payload: Any
    payload_bytes: int


def masked(payload: bytes) -> Shown:
    """Show ``payload`` with its values masked; what is not JSON shows its length only."""
    try:
        value = _mask(msgspec.json.decode(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # RecursionError: nested deeper than is sensible
        return Shown("hidden", None, len(payload))
    return Shown("masked", value, len(payload))


def revealed(payload: bytes) -> Shown:
    """Show ``payload`` as it is, byte for byte where the answer's JSON can carry that."""
    try:
        msgspec.json.decode(payload)  # to Any: checks all of it, the UTF-8 of its strings included
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # not JSON: shown as text or base64 below
    else:
        return Shown("json", msgspec.Raw(payload), len(payload))
    try:
        return Shown("text", payload.decode(), len(payload))
    except UnicodeDecodeError:
        return Shown("base64", base64.b64encode(payload).decode(), len(payload))


def mask_text(text: str) -> str:
    """Mask one string, or a number's digits."""
    plain = unicodedata.normalize("NFKC", text).strip()
    compact = plain.translate(_SEPARATORS)
    if match := _MOBILE.fullmatch(compact):
        return f"{match[1]}****{match[2]}"
    if match := _LONG_NUMBER.fullmatch(compact):
        return f"{match[1]}{'*' * (len(compact) - 10)}{match[2]}"
    return plain[0] + _HIDDEN if len(plain) > 1 else _HIDDEN


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mask(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mask(inner) for inner in value]
    if isinstance(value, str):
        return mask_text(value) if value else value
    if value is None or isinstance(value, bool):
        return value
    return mask_text(str(value))
