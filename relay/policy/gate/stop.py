"""A stop: nothing is sent until a time. Stops in a row grow longer, and when one ends a single request goes first.

A platform has one, and so has each of its groups that was throttled. The callbacks stay in the queue meanwhile.

Example with ``backoff: 2s..10m`` and a platform that names no wait: the first refusal stops for 1 to 2 s, the second in
a row for 2 to 4 s, the fifth for 16 to 32 s, the tenth and later for 5 to 10 min.
"""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.core.raw import Kept
from relay.policy.backoff import backoff_s, jittered_s
from relay.policy.gate.suspicion import Suspicion

# When a hold begins nobody was refused yet, and the headers that ask for it are often wrong: a reset that means
# midnight, a counter that is always 0. So a hold is a minute at most. One request a minute costs an honest platform
# nothing.
_LONGEST_HOLD_S = 60.0
_DOUBT = 4.0  # a quarter as long each time a request was accepted although nothing was to be left: 60, 15, 3.75 s ...
_MOST_DOUBT = 8  # then a hold is a millisecond, that is none
NOTHING_LEFT = "the platform says nothing is left"


class StopCause(NamedTuple):
    """Why to stop: an answer, or none, that was seen ``now`` to a request sent at ``started_at``."""

    now: float
    started_at: float
    reason: str
    wait_s: float | None = None  # as the platform asked


@dataclass(slots=True, kw_only=True)
class Stop:
    """``base_s`` and ``cap_s`` bound the growing waits; all times are relay-clock seconds."""

    base_s: float
    cap_s: float
    stopped_until: float = 0.0
    stop_reason: str = ""
    throttled: bool = False  # anything but the platform's failure
    level: int = 0  # stops in a row without anything accepted
    resuming: bool = False
    since: float = 0.0  # when it began: the first of stops in a row
    suspicion: Suspicion = field(default_factory=Suspicion)
    patience_s: float = 0.0  # a second refusal in a row waits about this long: the known limit opens no sooner
    nothing_until: float = 0.0  # until when nothing is left, as the platform said at the last hold
    _stopped_at: float = 0.0
    _held_at: float = 0.0
    _doubt: int = 0

    def throttle(self, cause: StopCause, rng: random.Random) -> None:
        """Stop for as long as the platform asked, or for a growing time where it named no wait.

        1. An answer to a request that was sent before the stop began does not make it grow.
        2. A wait of 0 does not shorten the growing time: a platform that keeps saying "in 0 seconds", or names the
           past, must not be asked in a hot loop.
        3. Nor does a wait that proved too short: the first request after it was refused again.
        """
        self._doubt, self.nothing_until = 0, 0.0  # there is a limit after all
        until = self.stopped_until
        if cause.wait_s is not None:
            until = cause.now + jittered_s(cause.wait_s, rng)
        if cause.started_at >= self._stopped_at and (not cause.wait_s or self.level):
            until = max(until, cause.now + self._backoff_s(rng))
        self._stop(cause, until, throttled=True)

    def back_off(self, cause: StopCause, rng: random.Random, *, at_most: float) -> None:
        """Stop for a growing time after a failure, not beyond ``at_most``.

        A request sent before the stop adds nothing to it.
        """
        if cause.started_at >= self._stopped_at:
            self._stop(cause, min(cause.now + self._backoff_s(rng), at_most), throttled=False)

    def hold(self, cause: StopCause, rng: random.Random) -> None:
        """Wait because an accepted answer said that nothing is left for a while: no failure, nothing grows.

        The wait is a minute at most. A request that was sent after a hold and accepted, before anything was to be
        left, shows that the headers do not mean what they say: the next hold is a quarter as long. A refusal clears
        that doubt.
        """
        now, wait_s = cause.now, cause.wait_s or 0.0
        if self._held_at <= cause.started_at < self.nothing_until:
            self._doubt = min(self._doubt + 1, _MOST_DOUBT)
        hold_s = min(wait_s, _LONGEST_HOLD_S / _DOUBT**self._doubt)
        until = now + jittered_s(hold_s, rng)
        self._held_at, self.nothing_until = now, now + wait_s
        if until > self.stopped_until:
            self.since = self.since if self.stopped_until > now else now
            self.stopped_until, self.stop_reason, self.throttled = until, NOTHING_LEFT, True

    def rest(self, now: float, *, wait_s: float, reason: str) -> None:
        """Wait for ``wait_s`` because of something that is no fault of the platform: nothing grows or is counted."""
        if now + wait_s > self.stopped_until:
            self.since = self.since if self.stopped_until > now else now
            self.stopped_until, self.stop_reason, self.throttled = now + wait_s, reason, True

    def end(self) -> None:
        """Something was accepted: the next stop starts small again."""
        self.level, self.resuming = 0, False

    def _backoff_s(self, rng: random.Random) -> float:
        if self.level and self.patience_s > 2.0 * self.base_s:
            return backoff_s(self.level, base_s=self.patience_s, cap_s=self.cap_s, rng=rng)
        return backoff_s(self.level + 1, base_s=self.base_s, cap_s=self.cap_s, rng=rng)

    def _stop(self, cause: StopCause, until: float, *, throttled: bool) -> None:
        if cause.started_at >= self._stopped_at:
            self.since = self.since if self.level else cause.now
            self.level += 1
            self._stopped_at = cause.now
        if until >= self.stopped_until:
            self.stopped_until, self.stop_reason, self.throttled = until, cause.reason, throttled
        self.resuming = True

    def dump_stop(self) -> Kept:
        """Return what a restart must know; suspicion starts anew."""
        return {
            "stopped_until": self.stopped_until,
            "stop_reason": self.stop_reason,
            "throttled": self.throttled,
            "level": self.level,
            "resuming": self.resuming,
            "since": self.since,
        }

    def load_stop(self, kept: Kept) -> None:
        """Continue from ``dump_stop``; what is missing keeps its start value."""
        self.stopped_until = float(kept.get("stopped_until", 0.0))
        self.stop_reason = str(kept.get("stop_reason", ""))
        self.throttled = bool(kept.get("throttled", False))
        self.level = int(kept.get("level", 0))
        self.resuming = bool(kept.get("resuming", False))
        self.since = float(kept.get("since", 0.0))
