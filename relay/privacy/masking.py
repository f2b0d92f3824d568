"""Masks single values and finds what must be masked inside a text. What of a payload is shown, ``views`` decides.

A value is masked by its kind, where a person said the kind (``privacy.mask``) or it is recognised:

* a mobile number keeps 3 + 4 digits: 138****5678
* an identity or card number keeps 6 + 4 digits, the usual rule of libraries, and for cards of PCI DSS 3.4
* an e-mail address keeps its first character and its domain: z***@example.com
* an address that a person named keeps 6 characters, which in China is as far as the district
* any other value keeps its first character

Text is compared in NFKC, so full-width digits are masked like plain ones.
"""

import base64
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec

Kind = Literal["phone", "id_card", "bank_card", "email", "name", "address", "hide"]
HIDDEN: Final = "***"

_MOBILE = re.compile(r"(?:\+86|0086|86)?(1[3-9]\d)\d{4}(\d{4})")  # mainland China; with or without the country code
# Identity numbers (15 or 18 digits, the last may be X), bank cards
_LONG_NUMBER = re.compile(r"(\d{6})\d{5,}(\d{3}[\dXx])")
_EMAIL = re.compile(r"([^\s@])[^\s@]*(@[^\s@]+\.[^\s@]+)")
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_SEPARATORS = str.maketrans("", "", " -")
# The same inside a text. Digits with letters before or behind them are parts of ids, and are left alone.
_INSIDE = re.compile(
    r"(?<![0-9A-Za-z])(?:(?:\+|00)?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])\d(?:[ -]?\d){13,18}[Xx]?(?![0-9A-Za-z])"
    r"|[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"
)
_DISTRICT_CHARS = 6


class KeepEnds(NamedTuple):
    """Keeps the first and the last characters of a value; a value that would be left whole is hidden."""

    first: int
    last: int


How = Kind | KeepEnds


@dataclass(frozen=True, slots=True)
class PayloadView:
    """A payload as an answer carries it.

    ``form`` says what ``payload`` is: ``masked`` is JSON as far as it may be seen; ``hidden`` is None, for a payload
    that is no JSON and of which only the length may be seen; ``json`` is the bytes as they came; else ``text`` or
    ``base64``.
    """

    form: str
    payload: Any
    payload_bytes: int


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
    """Mask one string, or a number's digits, by what it is recognised as."""
    plain = unicodedata.normalize("NFKC", text).strip()
    compact = plain.translate(_SEPARATORS)
    if match := _MOBILE.fullmatch(compact):
        return f"{match[1]}****{match[2]}"
    if match := _LONG_NUMBER.fullmatch(compact):
        return f"{match[1]}{'*' * (len(compact) - 10)}{match[2]}"
    if match := _EMAIL.fullmatch(plain):
        return f"{match[1]}{HIDDEN}{match[2]}"
    return plain[0] + HIDDEN if len(plain) > 1 else HIDDEN


def mask_as(text: str, how: How) -> str:
    """Mask a value whose kind a person named. For example ``KeepEnds(3, 4)`` makes 400****0888 of 40012340888."""
    plain = unicodedata.normalize("NFKC", text).strip()
    return _kept(plain, how) if isinstance(how, KeepEnds) else _KINDS[how](plain)


def mask_inside(text: str) -> str:
    """Return ``text`` with the phone numbers, identity and card numbers and e-mail addresses in it masked."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _INSIDE.sub(lambda found: mask_text(found[0]), text)


def _kept(plain: str, keep: KeepEnds) -> str:
    left_out = len(plain) - keep.first - keep.last
    if left_out <= 0:
        return HIDDEN
    return f"{plain[: keep.first]}{'*' * left_out}{plain[len(plain) - keep.last :]}"


def _phone(plain: str) -> str:
    compact = plain.translate(_SEPARATORS)
    if match := _MOBILE.fullmatch(compact):
        return f"{match[1]}****{match[2]}"
    return _kept(compact, KeepEnds(3, 4)) if len(compact) > 8 else _kept(compact, KeepEnds(0, 2))


def _long_number(plain: str) -> str:
    compact = plain.translate(_SEPARATORS)
    return _kept(compact, KeepEnds(6, 4)) if len(compact) > 12 else _kept(compact, KeepEnds(0, 4))


def _address(plain: str) -> str:
    return plain[:_DISTRICT_CHARS] + HIDDEN if len(plain) > _DISTRICT_CHARS else HIDDEN


_KINDS: Final[dict[str, Callable[[str], str]]] = {
    "phone": _phone,
    "id_card": _long_number,
    "bank_card": _long_number,
    "email": mask_text,
    "name": lambda plain: plain[0] + "**" if len(plain) > 1 else HIDDEN,
    "address": _address,
    "hide": lambda _plain: HIDDEN,
}


def lowered(text: str) -> str:
    """Return ``text`` with A to Z in lower case. Its length stays: other letters may become two by ``lower``."""
    return text.lower() if text.isascii() else text.translate(_LOWER)
