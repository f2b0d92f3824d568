"""What the memory store keeps of requests: each attempt, and the batches that are not done."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from relay.core.model import Purpose, Weight
from relay.core.settlement import AttemptResult
from relay.store.memory.rows import Row
from relay.store.quota_lines import Sent


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


class KeptAttempts:
    """The recorded attempts by id, until they need not be counted or shown any more."""

    def __init__(self) -> None:
        self.attempts: dict[int, Attempt] = {}
        self._loose: deque[int] = deque()  # attempts that no kept row shows, oldest first

    def let_go(self, attempt_id: int) -> None:
        """Note that no kept row shows an attempt."""
        self._loose.append(attempt_id)

    def forget_excerpts(self, attempt_ids: Sequence[int]) -> None:
        """Destroy what answers said."""
        for attempt_id in attempt_ids:
            attempt = self.attempts.get(attempt_id)
            if attempt is not None and attempt.result is not None:
                attempt.result = replace(attempt.result, excerpt="")

    def sent(self, platforms: frozenset[str], since: float) -> Iterable[Sent]:
        """Return the attempts that ``Slots`` rebuilds a quota from."""
        for attempt in self.attempts.values():
            result = attempt.result
            if attempt.platform not in platforms or (result is not None and result.ended_at <= since):
                continue
            yield Sent(
                attempt_id=attempt.attempt_id,
                platform=attempt.platform,
                group=attempt.group,
                started_at=attempt.started_at,
                ended_at=None if result is None else result.ended_at,
                answer_s=0.0 if result is None else result.duration_s,
                purpose=attempt.purpose,
                weight=attempt.weighed,
            )

    def forget(self, row: Row) -> None:
        """Let go of a deleted row's attempts."""
        for attempt_id in row.attempt_ids:
            attempt = self.attempts[attempt_id]
            attempt.rows -= 1
            if not attempt.rows:
                self._loose.append(attempt_id)

    def prune(self, before: float, limit: int) -> int:
        """Delete up to ``limit`` attempts that ended by ``before`` and that no row shows; return how many."""
        deleted = 0
        while deleted < limit and self._loose:
            result = self.attempts[self._loose[0]].result
            if result is None or result.ended_at > before:
                break
            del self.attempts[self._loose.popleft()]
            deleted += 1
        return deleted
