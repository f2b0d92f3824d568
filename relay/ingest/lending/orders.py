"""What the three requests ask for: ``take``, ``release``, ``report``."""

from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration
from relay.web.refusal import Refusal

MOST_SLOTS: Final = 1000
LONGEST_WAIT_S: Final = 60.0
_LONGEST_STOP_S: Final = 86400.0
_MOST_REPORTED: Final = 10_000
_T = TypeVar("_T")


class TakeOrder(Struct, forbid_unknown_fields=True, frozen=True):
    """``{"n": 1, "wait": "2s", "group": "17"}``, each with a default."""

    n: int = 1
    wait: str = "0s"
    group: str = ""

    def wait_s(self) -> float:
        """Check the order and return how long it waits. Raises ``Refusal``."""
        _between("n", self.n, 1, MOST_SLOTS)
        return _seconds("wait", self.wait, LONGEST_WAIT_S)


class ReleaseOrder(Struct, forbid_unknown_fields=True, frozen=True):
    """``{"slots": ["..."], "unused": false}``."""

    slots: list[str]
    unused: bool = False

    def check(self) -> None:
        """Check the order. Raises ``Refusal``."""
        _between("slots", len(self.slots), 0, MOST_SLOTS)


class ReportOrder(Struct, forbid_unknown_fields=True, frozen=True):
    """``{"n": 3, "refused": false, "wait": "30s", "group": "17"}``."""

    n: int = 1
    refused: bool = False
    wait: str | None = None
    group: str = ""

    def wait_s(self) -> float | None:
        """Check the order and return for how long the platform asked to be left alone. Raises ``Refusal``."""
        _between("n", self.n, 0, _MOST_REPORTED)
        return None if self.wait is None else _seconds("wait", self.wait, _LONGEST_STOP_S)


def read_order(kind: type[_T], body: bytes) -> _T:
    """Return what a body asks for; an empty one asks for the defaults. Raises ``Refusal``."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise Refusal("invalid_request", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refusal("invalid_json", 'send a JSON object such as {"n": 1, "wait": "2s"}') from None


def _between(key: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise Refusal("invalid_request", f"'{key}' takes {least} to {most}", key=key)


def _seconds(key: str, text: str, most_s: float) -> float:
    try:
        seconds = parse_duration(text)
    except BadValue:
        raise Refusal("invalid_request", f"'{key}' takes a duration such as 2s or 500ms", key=key) from None
    if seconds > most_s:
        raise Refusal("invalid_request", f"'{key}' is at most {most_s:g}s", key=key)
    return seconds
