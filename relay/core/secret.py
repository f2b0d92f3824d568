"""A secret that cannot be shown by accident: its repr, str, format and log lines do not have the value."""

import hmac
from typing import Final


class Secret:
    """Holds a secret text; only ``reveal`` returns it. Compared in constant time; can be a key of a mapping."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself; only for requests."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


NO_SECRET: Final = Secret("")
