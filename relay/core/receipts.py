"""Receipts: callbacks back to the order center that say what became of its own (spec: receipts)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

RECEIPTS: Final = "_receipts"
"""The reserved platform that delivers them; no platform of a configuration can have this name."""

HELD: Final = "held"
"""What a receipt calls a callback that waits for a person; it is pending, and ends later."""

OCCASIONS: Final = ("dead", "expired", HELD, "delivered", "superseded")
"""What there may be receipts of: each final state, and being held."""


@dataclass(frozen=True, slots=True)
class ReceiptRules:
    """What a store must know of receipts. ``expires_s`` counts from the end that a receipt tells of.

    ``size`` returns what a payload with this key and event takes in a body, without the envelope's part per item; None:
    its own length.
    """

    on: frozenset[str]  # of ``OCCASIONS``
    expires_s: float = 86400.0
    size: Callable[[bytes, str | None, str | None], int] | None = field(default=None, compare=False)
