"""What the memory store keeps of requests: each attempt, and the batches that are not done."""

from dataclasses import dataclass

from relay.core.model import Purpose, Weight
from relay.core.settlement import AttemptResult


@dataclass(slots=True)
class Attempt:
    """One recorded request."""

    attempt_id: int
    batch_id: str
    number: int
    platform: str
    group: str
    started_at: float
    purpose: Purpose
    rows: int  # kept rows that show it
    weight: Weight  # when it was made
    result: AttemptResult | None = None

    @property
    def weighed(self) -> Weight:
        """What it weighs, with the bytes that were found to be sent."""
        sent = 0 if self.result is None else self.result.wire_bytes
        return self.weight._replace(bytes=sent) if sent else self.weight


@dataclass(slots=True)
class Frozen:
    """A batch under way or waiting for its re-send."""

    number: int
    id: str
    platform: str
    group: str
    seqs: list[int]
    created_at: float
    root: int
    due_at: float
    expires_at: float  # of the item that expires last; a read-back still finds out what became of it
    part: bool = False  # came from a split
    confirm: bool = False  # a read-back
    attempt: int = 0
    attempt_id: int = 0  # of the attempt under way, else 0
