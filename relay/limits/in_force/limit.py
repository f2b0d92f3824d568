"""One limit in force: what is known of it, when the next probe is due, and how a raise is undone."""

from dataclasses import dataclass
from math import ceil, sqrt

from relay.core.model import Rate
from relay.core.raw import Kept
from relay.limits.fit.families import Family
from relay.limits.fit.written import CLOSE, SHORTEST_S, is_common, rounded_up

STOP_S = 3.0
"""A first stop after a refusal lasts no longer, in seconds."""
NEARLY_USED = 0.9
"""From this part of a limit on it counts as used up: a refusal may be due to it."""
FEW = 4
"""One of so few requests is a large part: not the count is lowered then, the window is made longer."""
PROVEN_WINDOWS = 20
"""After so many windows a limit is proven. Used up as often without a refusal, it gets no surer."""
_SAME_WINDOW = 1.5  # windows within this factor are taken for one
_RAISE_FIRST_S = 1200.0
_PACE_FIRST_S = 600.0  # a pace is only what got through: there may be more at any time
_RAISE_WINDOWS = 10.0
_RAISE_COSTS = 800.0  # times what a refusal costs: a failed step is refused twice, which is 1/400 of the time
_RAISE_CAP_S = 6 * 3600.0
_RAISE_JUDGED_S = 30.0
_RAISE_JUDGED_WINDOWS = 12.0  # a refusal that soon after a raise takes the whole raise back
_FAR = 1.25  # times the count before the raises
_COMMON_ENOUGH = 0.95  # a window people write is believed once 0.95 of it was refused
_BURSTS = 10  # in the window of a pace, at the least
_PACE_STEP, _PACE_FINEST = 12, 40  # parts of a pace that are asked for at first, and at the least
_BURST_S = 1.0  # a burst holds at most what the pace lets through in so long


@dataclass(slots=True)
class LearnedLimit:
    """One limit in force: ``n`` per ``window_s``; between ``low_s`` and ``high_s`` the true window lies."""

    n: int
    window_s: float
    low_s: float
    high_s: float
    family: Family
    since: float
    onsets: int = 0
    clean_from: float = 0.0
    used_up: int = 0  # windows that were used up since then, and nothing was refused
    used_up_at: float = float("-inf")
    raise_at: float = 0.0
    raise_every_s: float = 0.0
    step: int = 1
    narrowing: bool = False  # a larger step was refused: halve from here
    refused_once: bool = False  # the step was refused once
    peak: int = 0  # n before refusals that may have been noise took something off
    shrinks: int = 0
    shrunk_at: float = float("-inf")
    n_before_raises: int = 0  # n before the latest raises
    n_before_raise: int = 0  # n before the latest of them
    raised_at: float = float("-inf")
    refusals_since_raise: int = 0  # lone refusals since
    shrinks_since_raise: int = 0  # shrinks since a raise held
    shorter_tries: int = 0  # how often a shorter window was tried although this one is believed
    shorter_next: bool = False  # the next step is a shorter window, although this one is believed
    spread: int = 0  # by so many the count is too high at times, as far as is known
    is_pace: bool = False  # no limit was found, only what gets through
    refused_s: float = 0.0  # how long the latest refusal took
    answer_s: float = 0.0  # of a pace: a slot is held for so much longer than its window

    @property
    def rate_s(self) -> float:
        """The requests per second that it lets through in the long run."""
        return self.n / self.window_s

    def one_suffices(self, answer_s: float) -> bool:
        """Say whether one request at a time uses the limit up, easily."""
        return self.n * answer_s < self.window_s / 2

    @property
    def clean_windows(self) -> int:
        """How many windows were used up without a refusal since the last: others prove nothing."""
        return self.used_up if self.used_up_at > self.clean_from else 0

    def note_used_up(self, now: float) -> bool:
        """Count a window that is used up without a refusal; say whether that makes the limit surer."""
        if now - max(self.used_up_at, self.clean_from) < self.window_s:
            return False
        self.used_up, self.used_up_at = self.clean_windows + 1, now
        return self.used_up <= PROVEN_WINDOWS

    @property
    def same_window_s(self) -> float:
        """The longest window that counts as the same one."""
        return _SAME_WINDOW * self.window_s

    @property
    def least_step(self) -> int:
        """The smallest step up that is worth a refusal."""
        return max(1, self.n // _PACE_FINEST) if self.is_pace else 1

    @property
    def settled(self) -> bool:
        """Whether the window is known well enough: one a little shorter was refused.

        For a token bucket it always is: a bucket accepts a window that is too short for a while.
        """
        if self.family is Family.BUCKET or self.window_s <= SHORTEST_S:
            return True
        enough = _COMMON_ENOUGH if is_common(self.window_s) else 1.0 / CLOSE - 0.001
        return self.low_s >= self.window_s * enough

    @property
    def tries_shorter(self) -> bool:
        """Whether the next step is a shorter window, although this one is believed."""
        worth_it = self.n > FEW and self.window_s > 2 * SHORTEST_S
        return self.shorter_next and worth_it and self.family is not Family.BUCKET

    def plan_raise(self, now: float, *, failed: bool, again: bool = False) -> None:
        """Set when to try a higher count next: later each time that one ``failed``.

        Refusals that belong together (``again``) count as two failures at the most.
        """
        first_s, cap_s = (_PACE_FIRST_S, _RAISE_FIRST_S) if self.is_pace else (_RAISE_FIRST_S, _RAISE_CAP_S)
        lost_s = self.refused_s + STOP_S - self.window_s  # by a refusal; what a window holds may wait for its end
        first_s = max(first_s, _RAISE_WINDOWS * self.window_s, min(lost_s * _RAISE_COSTS, _RAISE_CAP_S))
        if self.n <= FEW and not is_common(self.window_s):
            first_s = max(first_s, cap_s)  # one more is a step of a quarter at the least
        self.raise_every_s = min(max(self.raise_every_s * 2.0, first_s), max(cap_s, first_s)) if failed else first_s
        if again:
            self.raise_every_s = min(self.raise_every_s, 2 * first_s)
        self.raise_at = now + self.raise_every_s
        self.step, self.narrowing, self.refused_once = max(1, self.n // _PACE_STEP) if self.is_pace else 1, False, False
        self.shorter_next = failed and not self.shorter_next and self.family is not Family.BUCKET and not self.is_pace

    def raised_lately(self, now: float) -> bool:
        """Say whether the count was raised so lately that a refusal is held against it."""
        return (
            self.n_before_raises > 0 and now - self.raised_at <= _RAISE_JUDGED_WINDOWS * self.window_s + _RAISE_JUDGED_S
        )

    def undo_raise(self, now: float) -> bool:
        """Undo the raises that a refusal followed soon; say whether there was one.

        Far above the count before them, half of the way is kept: some of the raise is true.
        """
        if not self.raised_lately(now):
            return False
        self.peak = self.n - 1
        if self.n > _FAR * self.n_before_raises:
            self.n = int(sqrt(self.n * self.n_before_raises))
            self.raised_at, self.refusals_since_raise = now, 0
            self.step, self.narrowing, self.refused_once = max(1, self.n // 32), False, False
            self.raise_at = now + _RAISE_JUDGED_WINDOWS * self.window_s + _RAISE_JUDGED_S
            return True
        self.n, self.n_before_raises = min(self.n, self.n_before_raises), 0
        self.plan_raise(now, failed=True)
        return True

    def rate(self) -> Rate:
        """Return it as a rate."""
        return Rate(self.n, self.window_s)

    def dump(self) -> Kept:
        """Return what a restart needs."""
        return {
            "n": self.n,
            "window_s": self.window_s,
            "low_s": self.low_s,
            "high_s": self.high_s,
            "family": self.family.value,
            "since": self.since,
            "onsets": self.onsets,
            "clean_from": self.clean_from,
            "used_up": self.used_up,
            "used_up_at": self.used_up_at if self.used_up else None,
            "raise_at": self.raise_at,
            "raise_every_s": self.raise_every_s,
            "paced": self.is_pace,
            "answer_s": self.answer_s,
        }

    @classmethod
    def load(cls, kept: Kept) -> "LearnedLimit":
        """Return it from ``dump``. Raises ``KeyError`` or ``ValueError`` when it is not one."""
        return cls(
            n=int(kept["n"]),
            window_s=float(kept["window_s"]),
            low_s=float(kept["low_s"]),
            high_s=float(kept["high_s"]),
            family=Family(kept["family"]),
            since=float(kept["since"]),
            onsets=int(kept["onsets"]),
            clean_from=float(kept["clean_from"]),
            used_up=int(kept.get("used_up", 0)),
            used_up_at=float("-inf") if kept.get("used_up_at") is None else float(kept["used_up_at"]),
            raise_at=float(kept["raise_at"]),
            raise_every_s=float(kept["raise_every_s"]),
            is_pace=bool(kept.get("paced", False)),
            answer_s=float(kept.get("answer_s", 0.0)),
        )


def smooth(rate: Rate, answer_s: float) -> Rate:
    """Return a pace as bursts of a few requests: large bursts could fill a window that nobody knows.

    The answer time is taken off the window: a slot is held for it as well, and short windows would lose much by it.
    """
    n = max(1, min(rate.limit // _BURSTS, ceil(_BURST_S * rate.limit / rate.window_s)))
    window_s = rate.window_s * n / rate.limit
    return Rate(n, rounded_up(max(window_s - answer_s, window_s / 2)))


def near(window_s: float, other_s: float) -> bool:
    """Say whether two windows are so near that they are one."""
    return max(window_s, other_s) < _SAME_WINDOW * min(window_s, other_s)
