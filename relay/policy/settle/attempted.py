"""What settling decides from: one finished attempt, the retry budget, and whether the platform can be asked back."""

from dataclasses import dataclass
from typing import Literal

from relay.core.model import AttemptResult, Batch, Verdict

ReadBack = Literal["never", "unclear", "ambiguous"]
"""When a read-back decides: never, for answers nobody recognised, or also for requests that may have been applied."""


@dataclass(frozen=True, slots=True)
class Budget:
    """``retry:`` of a platform: re-sends after the first attempt, and the bounds of their backoff in seconds."""

    times: int
    base_s: float
    cap_s: float


@dataclass(frozen=True, slots=True)
class Attempted:
    """One finished attempt: the batch, what it drew and when (relay-clock seconds)."""

    batch: Batch
    verdict: Verdict
    result: AttemptResult
    started_at: float
    first_after_stop: bool  # sent while the gate was resuming
    renewed: bool = False  # refused for its token, and there is another one to try
    read_back: ReadBack = "never"
    asked: bool = False  # it was a read-back: what it drew is about the one item, not an answer to sending it
