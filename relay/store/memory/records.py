"""What the memory store keeps of requests: each attempt, and the batches that are not done."""

from dataclasses import dataclass

from relay.core.model import AttemptResult, Purpose


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
    result: AttemptResult | None = None


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
