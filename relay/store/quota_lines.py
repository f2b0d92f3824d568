"""One quota: its windows, burst, pace and turns, in one line or, where it is kept per group, in a line for each group.

``store.slots`` holds all quotas and says which of them a request needs.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec import UNSET

from relay.core.model import Purpose, Quota, Rate, Weight
from relay.policy.credits import Credits
from relay.policy.pacing import AnswerTime, Burst, longest_pace_s
from relay.policy.sharing import Turns
from relay.policy.strict_window import StrictWindow
from relay.policy.weighed_window import HeldWeight, WeighedWindow
from relay.views.moments import Instant
from relay.views.queue import QuotaUse, SlotUses

_SWEEP_FROM = 64  # idle groups are swept when they are this many, and again whenever their number has doubled
# A window keeps one number per slot: which of the quota's platforms used it, and for which purpose.
PURPOSES = len(Purpose)
_PATIENCE_S = 60.0  # of a longer window a batch is cut as early as of this one


class Sent(NamedTuple):
    """A recorded attempt: what a quota's log is rebuilt from. ``ended_at`` is None when no answer is recorded."""

    attempt_id: int
    platform: str
    group: str
    started_at: float
    ended_at: float | None
    answer_s: float
    purpose: int = Purpose.FIRST
    quota: str = ""  # of a slot that somebody took of this shared quota; ``platform`` is empty then
    weight: Weight = Weight()


EVERY_SLOT = -1
"""The ``attempt_id`` of what says that every slot of a platform's limits was used until ``ended_at``."""

Recorded = Callable[[frozenset[str], float], Iterable[Sent]]
"""``sent(platforms, since)``: every recorded attempt of these platforms that has no end or ended after ``since``.

Beside them every slot that others took and that counts from after ``since``, of whatever limit.
"""


class QuotaLine:
    """One quota, or one group of a quota kept per group: its windows, burst, pace and turns."""

    __slots__ = (
        *("_all", "_answers", "_burst", "_full_ends", "_full_until", "_last_at"),
        *("_own", "_plain", "_quota", "_weighed", "_windows"),
        "turns",
    )

    def __init__(self, quota: Quota, shift_s: Callable[[], float], shares: Mapping[str, int]) -> None:
        self._quota = quota
        self._windows = [StrictWindow(rate) for rate in quota.rates if rate.plain]
        self._weighed = [WeighedWindow(rate, shift_s) for rate in quota.rates if not rate.plain]
        # What the relay's own requests may use at most, where some of a window is kept for others.
        self._own = [StrictWindow(rate) for rate in own_rates(quota)]
        self._all = [*self._windows, *self._own]
        plain = self._plain = [rate for rate in quota.rates if rate.plain]
        self._burst = Burst(quota.burst, plain) if quota.burst and plain else None
        self._answers = AnswerTime()
        self._last_at: float | None = None
        self._full_until = -math.inf
        self._full_ends: list[float] = []  # of each window, plain ones first: until when all of it counts as used
        # Turns of platforms; among its groups a platform takes turns itself (store.rotation).
        self.turns: Turns[str] = Turns(Credits(shares) if shares else None)

    def resize(self, quota: Quota) -> None:
        """Put new limits over the same windows in force."""
        self._quota = quota
        plain = self._plain = [rate for rate in quota.rates if rate.plain]
        for window, rate in zip(self._windows, plain, strict=True):
            window.resize(rate.limit)
        for weighed, rate in zip(self._weighed, (rate for rate in quota.rates if not rate.plain), strict=True):
            weighed.resize(rate.limit)
        for window, rate in zip(self._own, own_rates(quota), strict=True):
            window.resize(rate.limit)
        if not quota.burst or not plain:
            self._burst = None
        elif self._burst is None:
            self._burst = Burst(quota.burst, plain)
        else:
            self._burst.resize(quota.burst, plain)

    def restore(self, rows: list[Sent], now: float, places: Mapping[str, int]) -> None:
        """Rebuild from attempts; those without an end are in flight in this process."""
        kinds = [kind_of(row.purpose, row.platform, places) for row in rows]
        for window in self._windows:
            window.restore(((row.attempt_id, row.ended_at, kind) for row, kind in zip(rows, kinds, strict=True)), now)
        for weighed in self._weighed:
            weighed.restore(
                (
                    HeldWeight(row.attempt_id, row.ended_at, row.answer_s, kind, row.weight)
                    for row, kind in zip(rows, kinds, strict=True)
                ),
                now,
            )
        own = [row for row in rows if row.purpose != Purpose.EXTERNAL]
        for window in self._own:
            window.restore(((row.attempt_id, row.ended_at, 0) for row in own), now)
        for row in sorted(rows, key=lambda row: row.started_at):
            if self._burst is not None:
                self._burst.take(row.started_at)
            if row.purpose != Purpose.EXTERNAL:
                self._last_at = row.started_at
                if row.ended_at is not None:
                    self._answers.saw(row.answer_s)

    def count_as_full(self, at: float) -> None:
        """Count every slot as used until ``at``: which of them were is not known."""
        ends = [at + window.window_s for window in self._windows] + [weighed.empty_at(at) for weighed in self._weighed]
        self._full_until, self._full_ends = max(ends, default=at), ends

    def free_at(self, now: float) -> float:
        """Return ``now`` when every window has a free slot and the burst allows it, else when they will."""
        at = max(self._full_until, now if self._burst is None else self._burst.free_at(now))
        for window in self._all:
            at = max(at, window.free_at(now))
        for weighed in self._weighed:
            at = max(at, weighed.room_at(now, 1))
        return at

    def left(self, now: float) -> dict[str, int]:
        """Return how much is free of each unit that is counted here."""
        found: dict[str, int] = {}
        for weighed in self._weighed:
            found[weighed.unit] = min(weighed.left(now), found.get(weighed.unit, weighed.limit))
        return found

    def fits_at(self, weight: Weight, now: float) -> float:
        """Return ``now`` when a request of this weight may go, else when it may."""
        return max((weighed.room_at(now, weighed.weight(weight)) for weighed in self._weighed), default=now)

    def cut_at(self, weight: Weight, now: float) -> float:
        """Return from when on a batch is cut to what is left instead of waiting for all of ``weight``.

        That is when as much as it weighs is free at the pace of the window: small rests gather meanwhile.
        """
        begin = now if self._last_at is None else self._last_at
        at = 0.0
        for weighed in self._weighed:
            mine = weighed.weight(weight)
            if weighed.unit != "requests" and mine > weighed.left(now):
                at = max(at, begin + min(1.0, mine / weighed.limit) * min(weighed.window_s, _PATIENCE_S))
        return at

    @property
    def most(self) -> float:
        """How many slots there are at the most at once."""
        calendars = [weighed.limit for weighed in self._weighed if weighed.unit == "requests"]
        return min((*(window.limit for window in self._windows), *calendars), default=math.inf)

    def room_at(self, now: float, count: int) -> float:
        """Return ``now`` when others may take ``count`` slots at once, else when they may."""
        at = max(now, self._full_until)
        if self._burst is not None:
            at = max(at, self._burst.free_at(now) if count == 1 else math.inf)  # back to back they go one by one
        for window in self._windows:
            at = max(at, window.room_at(now, count))
        for weighed in self._weighed:
            at = max(at, weighed.room_at(now, count * weighed.weight(Weight())))
        return at

    def spare(self, now: float) -> int:
        """Return how many requests could go now, at least 1; with a burst they go one by one."""
        if self._burst is not None or not self._windows:
            return 1
        return max(1, min(window.limit - window.used(now) for window in self._all))

    def partial_at(self, now: float) -> float:
        """Return when the pace lets a partial batch go: 0.0 before the first send."""
        if self._last_at is None:
            return 0.0
        used = zip(self._plain, [window.used(now) for window in self._windows], strict=True)
        return self._last_at + longest_pace_s(used, self._answers.recent_s)

    def take(self, attempt_id: int, now: float, kind: int, weight: Weight) -> None:
        """Hold a slot in every window."""
        for weighed in self._weighed:
            weighed.take(attempt_id, kind, weight)
        for window in self._windows:
            window.take(attempt_id, kind)
        for window in self._own:
            window.take(attempt_id)
        if self._burst is not None:
            self._burst.take(now)
        self._last_at = now

    def lend(self, now: float, until: float, kind: int) -> None:
        """Hold a slot in every window for somebody who was answered by ``until`` at the latest."""
        for window in self._windows:
            window.lend(until, kind)
        for weighed in self._weighed:
            weighed.lend(until, kind)
        if self._burst is not None:
            self._burst.take(now)

    def take_back(self, until: float, kind: int) -> None:
        """Give a lent slot back."""
        for window in self._windows:
            window.take_back(until, kind)
        for weighed in self._weighed:
            weighed.take_back(until, kind)

    def lend_again(self, at: float, kind: int) -> None:
        """Let a lent slot that was taken back count from ``at``."""
        for window in self._windows:
            window.lend(at, kind)
        for weighed in self._weighed:
            weighed.lend(at, kind)

    def release(self, attempt_id: int, at: float, answer_s: float, wire_bytes: int = 0) -> None:
        """Start the slot's way back in every window; ``wire_bytes``: the body as it was sent, 0 where not known."""
        for weighed in self._weighed:
            weighed.release(attempt_id, at, answer_s, wire_bytes)
        for window in self._all:
            window.release(attempt_id, at)
        self._answers.saw(answer_s)

    def name(self, attempt_id: int, kind: int) -> None:
        """Let the slot be of another kind."""
        for window in self._windows:
            window.forget(attempt_id)
            window.take(attempt_id, kind)

    def forget(self, attempt_id: int) -> None:
        """Give the slot back: nothing was sent."""
        for window in self._all:
            window.forget(attempt_id)
        for weighed in self._weighed:
            weighed.forget(attempt_id)

    def idle(self, now: float) -> bool:
        """Say whether dropping this line and starting a new one would make no difference."""
        return (
            self._full_until <= now
            and not any(window.used(now) for window in self._windows)
            and not any(weighed.used(now) for weighed in self._weighed)
            and self.turns.stale(now)
            and self.partial_at(now) <= now
            and (self._burst is None or self._burst.free_at(now) <= now)
        )

    def usage(self, now: float, place: int) -> list[QuotaUse]:
        """Return what each window holds, as the platform at ``place`` of the quota sees it."""
        ends = self._full_ends or [-math.inf] * (len(self._windows) + len(self._weighed))
        own = {window.window_s: window.free_at(now) for window in self._own}
        return [
            QuotaUse(
                quota=self._quota.name,
                window_s=window.window_s,
                limit=window.limit,
                used=window.used(now) if end <= now else window.limit,
                free_at=Instant(max(window.free_at(now), own.get(window.window_s, now), end)),
                uses=_uses(window.kinds(now), place),
                unknown=end > now or UNSET,
            )
            for window, end in zip(self._windows, ends, strict=False)
        ] + [
            QuotaUse(
                quota=self._quota.name,
                window_s=weighed.window_s,
                limit=weighed.limit,
                used=weighed.used(now) if end <= now else weighed.limit,
                free_at=Instant(max(weighed.room_at(now, 1), end)),
                uses=_uses(weighed.kinds(now), place),
                unit=weighed.unit,
                calendar=weighed.calendar_text,
                unknown=end > now or UNSET,
            )
            for weighed, end in zip(self._weighed, ends[len(self._windows) :], strict=True)
        ]

    def load(self, now: float) -> float:
        """Return the used part of the fullest window."""
        parts = [window.used(now) / window.limit for window in self._windows]
        parts += [weighed.used(now) / weighed.limit for weighed in self._weighed]
        return max(parts, default=0.0)


def own_rates(quota: Quota) -> list[Rate]:
    """Return what is left to the relay's own requests, of each rate of which a part is kept for others."""
    kept = zip(quota.rates, quota.reserve, strict=True) if quota.reserve else ()
    return [Rate(rate.limit - reserve, rate.window_s) for rate, reserve in kept if reserve and rate.plain]


def kind_of(purpose: int, platform: str, places: Mapping[str, int]) -> int:
    """Return what a window keeps of a slot: which of the quota's platforms used it (the last place: none), for what."""
    return places.get(platform, len(places)) * PURPOSES + purpose


def _uses(kinds: Mapping[int, int], place: int) -> SlotUses:
    """Return what the slots were used for; those of other platforms than the one at ``place`` count as others'."""
    own = {purpose.name.lower(): kinds.get(place * PURPOSES + purpose, 0) for purpose in Purpose}
    own["external"] = sum(count for kind, count in kinds.items() if kind % PURPOSES == Purpose.EXTERNAL)
    return SlotUses(**own, others=sum(kinds.values()) - sum(own.values()))


class QuotaSlots:
    """One quota with the platforms that name it, and its line or lines."""

    __slots__ = ("_full_at", "_lines", "_shift_s", "_sweep_at", "members", "places", "quota", "shares")

    def __init__(
        self, quota: Quota, members: frozenset[str], shift_s: Callable[[], float], shares: Mapping[str, int]
    ) -> None:
        """``shares``: of the members that may go more than once in a turn."""
        self.quota = quota
        self.shares = shares
        self._shift_s = shift_s
        self.members = members
        self.places = {platform: place for place, platform in enumerate(sorted(members))}
        self._lines: dict[str, QuotaLine] = {}
        self._sweep_at = _SWEEP_FROM
        self._full_at = -math.inf

    def fits(self, quota: Quota, members: frozenset[str], shares: Mapping[str, int]) -> bool:
        """Say whether the log stays good under ``quota``: same platforms, shares and windows, only limits differ."""
        mine = [(rate.window_s, rate.unit, rate.calendar) for rate in self.quota.rates]
        return (
            self.members == members
            and self.shares == shares
            and (self.quota.per_group, self.quota.group) == (quota.per_group, quota.group)
            and mine == [(rate.window_s, rate.unit, rate.calendar) for rate in quota.rates]
            and [rate.window_s for rate in own_rates(self.quota)] == [rate.window_s for rate in own_rates(quota)]
        )

    def counts(self, row: Sent) -> bool:
        """Say whether a recorded request, or a slot that others took, counts here."""
        return row.platform in self.members or (row.quota != "" and row.quota == self.quota.name)

    def resize(self, quota: Quota) -> None:
        """Put new limits in force."""
        if quota != self.quota:
            self.quota = quota
            for line in self._lines.values():
                line.resize(quota)

    def holds(self, group: str | None) -> bool:
        """Say whether requests of ``group`` count here; with None, whether those of all groups count together."""
        if group is None:
            return not self.quota.per_group and self.quota.group is None
        return self.quota.group is None or self.quota.group == group

    def restore(self, rows: list[Sent], now: float) -> None:
        """Rebuild from attempts of the members, and from slots that others took."""
        by_group: dict[str, list[Sent]] = {}
        for row in rows:
            if row.attempt_id == EVERY_SLOT:
                self._full_at = max(self._full_at, row.started_at)
                continue
            if not self.holds(row.group):
                continue
            by_group.setdefault(row.group if self.quota.per_group else "", []).append(row)
        for group, own in by_group.items():
            self._lines[group] = line = self._new_line()
            line.restore(own, now, self.places)

    def line(self, group: str, now: float) -> QuotaLine:
        """Return the line of ``group``; the only one unless the quota is kept per group."""
        name = group if self.quota.per_group else ""
        line = self._lines.get(name)
        if line is None:
            if len(self._lines) >= self._sweep_at:
                self._lines = {key: kept for key, kept in self._lines.items() if not kept.idle(now)}
                self._sweep_at = max(_SWEEP_FROM, 2 * len(self._lines))
            line = self._lines[name] = self._new_line()
        return line

    def _new_line(self) -> QuotaLine:
        line = QuotaLine(self.quota, self._shift_s, self.shares)
        if self._full_at > -math.inf:
            line.count_as_full(self._full_at)
        return line

    def fullest(self, now: float) -> QuotaLine:
        """Return the line that is nearest to its limit."""
        return max(
            self._lines.values(),
            key=lambda line: line.load(now),
            default=self._new_line(),
        )
