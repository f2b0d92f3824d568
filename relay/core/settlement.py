"""What an attempt came to, and everything that changes by it: the parts of a settlement.

Plain data, with times and sizes as in ``core.model``.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain

from relay.core.ids import encode_id
from relay.core.model import Outcome, State
from relay.core.raw import Kept


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What is kept of an attempt."""

    outcome: Outcome
    ended_at: float  # when the answer or failure was seen; the slot is free one window later
    duration_s: float
    status: int | None = None
    reason: str = ""
    excerpt: str = ""  # the start of the answer, for people
    ambiguous: bool = False
    raw_bytes: int = 0
    wire_bytes: int = 0
    code: str | None = None  # that the rule met; kept with callbacks that are held for it


@dataclass(frozen=True, slots=True)
class Requeue:
    """Items that return to their places in the queue; they may be regrouped."""

    seqs: Sequence[int]
    due_at: float
    charge: bool  # spends one re-send of each item's budget
    reason: str
    maybe_applied: bool = False
    message: str = ""  # the platform's own words, kept with the callbacks for people


@dataclass(frozen=True, slots=True)
class Ending:
    """Items that will not be tried again without a person."""

    seqs: Sequence[int]
    state: State  # DEAD or EXPIRED
    reason: str
    maybe_applied: bool = False
    message: str = ""  # the platform's own words, kept with the callbacks for people
    code: str | None = None  # that the rule met


@dataclass(frozen=True, slots=True)
class Ask:
    """Items that need a read-back: each becomes a frozen batch of its own with ``confirm`` set."""

    seqs: Sequence[int]
    due_at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Resend:
    """The same batch goes again: same membership, same id."""

    due_at: float
    charge: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """Everything that one answer changes, in one commit. Each item of the batch is in exactly one part."""

    batch: int
    attempt_id: int
    platform: str
    result: AttemptResult
    delivered: Sequence[int] = ()
    requeue: Sequence[Requeue] = ()
    endings: Sequence[Ending] = ()
    held: Sequence[int] = ()
    ask: Ask | None = None
    resend: Resend | None = None
    split: Sequence[Sequence[int]] = ()  # each part becomes a frozen batch of its own, due at once
    gate: Kept | None = None  # the platform's gate as it now stands (policy.gate), to survive a restart;
    # its "groups" are the stops that changed, None for one that is over

    def check(self, members: Collection[int], *, tag: int) -> None:
        """Raise ``ValueError`` unless the parts name each member of the batch exactly once; a re-send names all."""
        parts: list[Collection[int]] = [self.delivered, self.held, *self.split]
        parts += [again.seqs for again in self.requeue]
        parts += [ending.seqs for ending in self.endings]
        if self.ask is not None:
            parts.append(self.ask.seqs)
        if self.resend is not None:
            parts.append(members)
        named = sorted(chain.from_iterable(parts))
        if named != sorted(members):
            batch_id = "b" + encode_id(self.batch, tag)
            raise ValueError(f"settlement of batch {batch_id} names {named}, the batch holds {sorted(members)}")
