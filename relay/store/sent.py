"""What a store tells of a callback that is compared with what its platform shows."""

from typing import NamedTuple


class SentCallback(NamedTuple):
    """A callback as it lies in the store; ``at`` is when it ended or, of a pending one, is due (relay clock)."""

    seq: int
    id: str
    key: str | None
    event: str | None
    state: str
    held: bool
    at: float
    reason: str
    body: bytes | None
