"""Makes a payload fit for people to see: masked, unless the viewer may see it whole.

JSON keeps its structure and its keys, so that a person can see what kind of callback it is. Values are masked:

* a mobile number keeps 3 + 4 digits: 138****5678
* an identity or card number keeps 6 + 4 digits, the usual rule of libraries, and for cards of PCI DSS 3.4
* any other value keeps its first character

Text is compared in NFKC, so full-width digits are masked like plain ones.
"""

import base64
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import msgspec

_MOBILE = re.compile(r"(?:\+86|0086|86)?(1[3-9]\d)\d{4}(\d{4})")  # mainland China; with or without the country code
# Identity numbers (15 or 18 digits, the last may be X), bank cards
_LONG_NUMBER = re.compile(r"(\d{6})\d{5,}(\d{3}[\dXx])")
_SEPARATORS = str.maketrans("", "", " -")
_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class PayloadView:
    """A payload as an answer carries it.

    ``form`` says what ``payload`` is: ``masked`` is JSON with masked values; ``hidden`` is None, for a payload that is
    no JSON and of which only the length may be seen; ``json`` is the bytes as they came; else ``text`` or ``base64``.
    """

    form: str
    payload: Any
    payload_bytes: int


def masked(payload: bytes) -> PayloadView:
    """Return ``payload`` with its values masked; if it is no JSON, only its length."""
    try:
        value = _mask(msgspec.json.decode(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # RecursionError: nested too deeply
        return PayloadView("hidden", None, len(payload))
    return PayloadView("masked", value, len(payload))


def revealed(payload: bytes) -> PayloadView:
    """Return ``payload`` as it is; byte for byte, if it is JSON."""
    try:
        msgspec.json.decode(payload)  # decoded to Any, all of it is checked, also the UTF-8 of its strings
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # not JSON: text or base64 below
    else:
        return PayloadView("json", msgspec.Raw(payload), len(payload))
    try:
        return PayloadView("text", payload.decode(), len(payload))
    except UnicodeDecodeError:
        return PayloadView("base64", base64.b64encode(payload).decode(), len(payload))


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
