"""The breaker: a platform that keeps failing is left alone, but for one real batch every ``probe_every``.

It opens after ``open_after`` failures in a row, say 5: connection refused, 500, timeout ... Or in a storm: as many
batches in a row were refused as a whole, with nothing accepted in between. Anything accepted closes it.
"""

import random
from dataclasses import dataclass, field

from relay.core.raw import Kept
from relay.policy.backoff import jittered_s


@dataclass(frozen=True, slots=True)
class BreakerTerms:
    """``breaker:`` of a platform; ``probe_every_s`` in seconds."""

    open_after: int
    probe_every_s: float


@dataclass(slots=True)
class Breaker:
    """Counts platform-level failures and storms. ``terms`` None: never opens (``breaker: off``)."""

    terms: BreakerTerms | None
    failures: int = 0
    reason: str = ""
    probe_at: float = 0.0
    is_open: bool = False
    opened_at: float = 0.0
    storm: "Storm" = field(default_factory=lambda: Storm())

    def failed(self, now: float, reason: str, rng: random.Random) -> None:
        """Count one platform-level failure; a failed probe puts the next one off, and says what is wrong now."""
        self.failures += 1
        if self.terms is None:
            return
        if self.is_open:
            self.probe_at, self.reason = now + jittered_s(self.terms.probe_every_s, rng), reason
        elif self.failures >= self.terms.open_after:
            self.open(now, reason, rng)

    def open(self, now: float, reason: str, rng: random.Random) -> None:
        """Open now, or put the next probe off if already open. Does nothing with the breaker off."""
        if self.terms is None:
            return
        if not self.is_open:
            self.is_open, self.reason, self.opened_at = True, reason, now
        self.probe_at = now + jittered_s(self.terms.probe_every_s, rng)

    def probe_soon(self, now: float) -> None:
        """Let the next probe go now, if the breaker is open."""
        self.probe_at = min(self.probe_at, now)

    def accepted(self) -> None:
        """Something got through: close and forget failures and storm."""
        self.failures, self.is_open, self.reason = 0, False, ""
        self.storm.clear()

    def refused(
        self,
        now: float,
        *,
        root: int,
        alone: bool,
        reason: str,
        rng: random.Random,
        parts: int = 0,
        replayed: bool = False,
    ) -> None:
        """Count a wholly rejected or unrecognised batch towards a storm (SPEC 6, "Breaker").

        ``root`` is the number of the batch it was once split from, else its own; ``alone``: it held one item;
        ``parts``: the halves that this refusal makes of it, 2 or none. ``replayed``: it held only what was refused
        before and a person sent again; that it is refused again says nothing about the others.
        """
        if self.terms is None:
            return
        self.storm.refused(root=root, alone=alone, parts=parts, enough=self.terms.open_after, replayed=replayed)
        if self.storm.batches >= self.terms.open_after:
            self.open(now, f"storm: {reason}", rng)

    def dump(self) -> Kept:
        """Return what a restart must know."""
        return {
            "open": self.is_open,
            "failures": self.failures,
            "reason": self.reason,
            "probe_at": self.probe_at,
            "opened_at": self.opened_at,
        }

    def load(self, kept: Kept) -> None:
        """Continue from ``dump``; a breaker since turned off stays closed."""
        if self.terms is None:
            return
        self.is_open = bool(kept.get("open", False))
        self.failures = int(kept.get("failures", 0))
        self.reason = str(kept.get("reason", ""))
        self.probe_at = float(kept.get("probe_at", 0.0))
        self.opened_at = float(kept.get("opened_at", 0.0))


@dataclass(slots=True)
class Storm:
    """Batches in a row that were wholly refused, nothing accepted between; a bisect counts once."""

    batches: int = 0
    _bisects: dict[int, "_Bisect"] = field(default_factory=dict)

    def clear(self) -> None:
        """Something was accepted in between."""
        self.batches = 0
        self._bisects.clear()

    def refused(self, *, root: int, alone: bool, parts: int, enough: int, replayed: bool = False) -> None:
        """Count a refused batch, or one refused part of a bisect; one that was only ``replayed`` does not count."""
        bisect = self._bisects.get(root)
        if bisect is None:
            if replayed:
                return
            if not parts:
                self.batches += 1
                return
            bisect = self._bisects[root] = _Bisect(untried=1)
        bisect.untried += parts - 1
        bisect.alone += alone and not replayed
        if not bisect.counted and (bisect.untried <= 0 or bisect.alone >= enough):
            bisect.counted = True
            self.batches += 1
        if bisect.untried <= 0:
            del self._bisects[root]


@dataclass(slots=True)
class _Bisect:
    untried: int
    alone: int = 0
    counted: bool = False
