"""What a request came to on the wire: an answer, or a failure to get one. Knows nothing of the HTTP library."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

# Enough for any verdict on a batch as a whole; more of an answer is not read, unless it has results per item.
MAX_ANSWER_BYTES: Final = 64 * 1024

FailureKind = Literal[
    "lacking", "late", "denied", "refused", "unreachable", "dns", "tls", "timeout", "reset", "truncated", "not_http"
]


class Headers(Mapping[str, str]):
    """Response headers: looked up in any case; repeated ones joined by ", " (RFC 9110 section 5.3)."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        values: dict[str, str] = {}
        repeated: dict[str, list[str]] = {}
        for name, value in pairs:
            lower = name.lower()
            if lower in values:
                repeated.setdefault(lower, [values[lower]]).append(value)
            else:
                values[lower] = value
        for name, several in repeated.items():  # joined once: a thousand lines of one name must not be copied each time
            values[name] = ", ".join(several)
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header, else ``default``; not by way of an exception, for most lookups find nothing."""
        return self._values.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self._values!r})"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its status line and headers; ``headers`` are looked up in any case (``Headers``).

    ``body`` is decoded of its Content-Encoding and at most 64 KiB (4 MiB where it has results per item); ``complete``
    is False when there was more of it. ``proxy`` is host and port of the configured proxy where the answer is its own.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """No usable answer.

    ``connected`` is False only when no connection was ever established, so that not a byte can have reached the
    platform; in doubt it is True. ``truncated`` means that the answer began and did not end, ``not_http``
    that what came is none. ``detail`` is for
    people and holds no header or payload. ``lacking`` is no fault of the platform: there was no descriptor or memory
    for a connection.
    """

    kind: FailureKind
    connected: bool
    detail: str = ""
