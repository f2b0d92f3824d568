"""Slots over all quotas: who may send when, shared by the SQLite and the memory store.

One ``Slots`` belongs to one thread. It keeps in memory what the recorded attempts say; ``configure`` and ``set_quotas``
rebuild a quota from them, so that limits hold over restarts, kill -9 and reloads (SPEC 5 and 6). The store asks
``ready`` and calls ``take`` in the same step that records the attempt; after each commit it passes ``drain_wakes`` on
to its watcher.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from relay.core.model import PlatformRules, Purpose, Quota, StoreRules, WaitUntil
from relay.policy.pacing import AnswerTime, Burst, longest_pace_s
from relay.policy.sharing import Turns
from relay.policy.strict_window import StrictWindow
from relay.views.moments import Instant
from relay.views.queue import QuotaUse, SlotUses

_SWEEP_FROM = 64  # idle groups are swept when they are this many, and again whenever their number has doubled
# A window keeps one number per slot: which of the quota's platforms used it, and for which purpose.
_PURPOSES = len(Purpose)


class Sent(NamedTuple):
    """A recorded attempt: what a quota's log is rebuilt from. ``ended_at`` is None when no answer is recorded."""

    attempt_id: int
    platform: str
    group: str
    started_at: float
    ended_at: float | None
    answer_s: float
    purpose: int = Purpose.FIRST


Recorded = Callable[[frozenset[str], float], Iterable[Sent]]
"""``sent(platforms, since)``: every recorded attempt of these platforms that has no end or ended after ``since``."""


class _Line:
    """One quota, or one group of a quota kept per group: its windows, burst, pace and turns."""

    __slots__ = ("_answers", "_burst", "_last_at", "_quota", "_windows", "turns")

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._windows = [StrictWindow(rate) for rate in quota.rates]
        self._burst = Burst(quota.burst, quota.rates) if quota.burst and quota.rates else None
        self._answers = AnswerTime()
        self._last_at: float | None = None
        self.turns: Turns[str] = Turns()  # platforms; among its groups a platform takes turns itself (store.rotation)

    def resize(self, quota: Quota) -> None:
        """Put new limits over the same windows in force."""
        self._quota = quota
        for window, rate in zip(self._windows, quota.rates, strict=True):
            window.resize(rate.limit)
        if not quota.burst or not quota.rates:
            self._burst = None
        elif self._burst is None:
            self._burst = Burst(quota.burst, quota.rates)
        else:
            self._burst.resize(quota.burst, quota.rates)

    def restore(self, rows: list[Sent], now: float, places: Mapping[str, int]) -> None:
        """Rebuild from attempts; those without an end are in flight in this process."""
        kinds = [places[row.platform] * _PURPOSES + row.purpose for row in rows]
        for window in self._windows:
            window.restore(((row.attempt_id, row.ended_at, kind) for row, kind in zip(rows, kinds, strict=True)), now)
        for row in sorted(rows, key=lambda row: row.started_at):
            self._last_at = row.started_at
            if row.ended_at is not None:
                self._answers.saw(row.answer_s)
            if self._burst is not None:
                self._burst.take(row.started_at)

    def free_at(self, now: float) -> float:
        """Return ``now`` when every window has a free slot and the burst allows it, else when they will."""
        at = now if self._burst is None else self._burst.free_at(now)
        for window in self._windows:
            at = max(at, window.free_at(now))
        return at

    def spare(self, now: float) -> int:
        """Return how many requests could go now, at least 1; with a burst they go one by one."""
        if self._burst is not None or not self._windows:
            return 1
        return max(1, min(window.limit - window.used(now) for window in self._windows))

    def partial_at(self, now: float) -> float:
        """Return when the pace lets a partial batch go: 0.0 before the first send."""
        if self._last_at is None:
            return 0.0
        used = zip(self._quota.rates, (window.used(now) for window in self._windows), strict=True)
        return self._last_at + longest_pace_s(used, self._answers.recent_s)

    def take(self, attempt_id: int, now: float, kind: int) -> None:
        """Hold a slot in every window."""
        for window in self._windows:
            window.take(attempt_id, kind)
        if self._burst is not None:
            self._burst.take(now)
        self._last_at = now

    def release(self, attempt_id: int, at: float, answer_s: float) -> None:
        """Start the slot's way back in every window."""
        for window in self._windows:
            window.release(attempt_id, at)
        self._answers.saw(answer_s)

    def name(self, attempt_id: int, kind: int) -> None:
        """Let the slot be of another kind."""
        for window in self._windows:
            window.forget(attempt_id)
            window.take(attempt_id, kind)

    def forget(self, attempt_id: int) -> None:
        """Give the slot back: nothing was sent."""
        for window in self._windows:
            window.forget(attempt_id)

    def idle(self, now: float) -> bool:
        """Say whether dropping this line and starting a new one would make no difference."""
        return (
            not any(window.used(now) for window in self._windows)
            and self.turns.stale(now)
            and self.partial_at(now) <= now
            and (self._burst is None or self._burst.free_at(now) <= now)
        )

    def usage(self, now: float, place: int) -> list[QuotaUse]:
        """Return what each window holds, as the platform at ``place`` of the quota sees it."""
        return [
            QuotaUse(
                quota=self._quota.name,
                window_s=window.window_s,
                limit=window.limit,
                used=window.used(now),
                free_at=Instant(window.free_at(now)),
                uses=_uses(window.kinds(now), place),
            )
            for window in self._windows
        ]

    def load(self, now: float) -> float:
        """Return the used part of the fullest window."""
        return max((window.used(now) / window.limit for window in self._windows), default=0.0)


def _uses(kinds: Mapping[int, int], place: int) -> SlotUses:
    """Return what the slots were used for; those of other platforms than the one at ``place`` count as others'."""
    own = {purpose.name.lower(): kinds.get(place * _PURPOSES + purpose, 0) for purpose in Purpose}
    return SlotUses(**own, others=sum(kinds.values()) - sum(own.values()))


class _QuotaSlots:
    """One quota with the platforms that name it, and its line or lines."""

    __slots__ = ("_lines", "_sweep_at", "members", "places", "quota")

    def __init__(self, quota: Quota, members: frozenset[str]) -> None:
        self.quota = quota
        self.members = members
        self.places = {platform: place for place, platform in enumerate(sorted(members))}
        self._lines: dict[str, _Line] = {}
        self._sweep_at = _SWEEP_FROM

    def fits(self, quota: Quota, members: frozenset[str]) -> bool:
        """Say whether the log stays complete under ``quota``: same platforms, same windows, only limits differ."""
        mine = [rate.window_s for rate in self.quota.rates]
        return (
            self.members == members
            and (self.quota.per_group, self.quota.group) == (quota.per_group, quota.group)
            and mine == [rate.window_s for rate in quota.rates]
        )

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
        """Rebuild from attempts of the members."""
        by_group: dict[str, list[Sent]] = {}
        for row in rows:
            if not self.holds(row.group):
                continue
            by_group.setdefault(row.group if self.quota.per_group else "", []).append(row)
        for group, own in by_group.items():
            self._lines[group] = line = _Line(self.quota)
            line.restore(own, now, self.places)

    def line(self, group: str, now: float) -> _Line:
        """Return the line of ``group``; the only one unless the quota is kept per group."""
        name = group if self.quota.per_group else ""
        line = self._lines.get(name)
        if line is None:
            if len(self._lines) >= self._sweep_at:
                self._lines = {key: kept for key, kept in self._lines.items() if not kept.idle(now)}
                self._sweep_at = max(_SWEEP_FROM, 2 * len(self._lines))
            line = self._lines[name] = _Line(self.quota)
        return line

    def fullest(self, now: float) -> _Line:
        """Return the line that is nearest to its limit."""
        return max(self._lines.values(), key=lambda line: line.load(now), default=_Line(self.quota))


class Slots:
    """The slots of every quota in force. Times are seconds on the relay clock."""

    def __init__(self) -> None:
        self._quotas: dict[str, _QuotaSlots] = {}
        self._named: dict[str, tuple[_QuotaSlots, ...]] = {}
        self._configured: Mapping[str, PlatformRules] = {}
        self._beside: dict[str, tuple[str, ...]] = {}  # the quotas that one platform was given while running
        self._open: dict[int, Sent] = {}
        self._wakes: set[str] = set()

    @property
    def longest_window_s(self) -> float:
        """The longest window of any quota in force, 0.0 without any: attempts must be kept that long."""
        return max((rate.window_s for slots in self._quotas.values() for rate in slots.quota.rates), default=0.0)

    def configure(self, rules: StoreRules, sent: Recorded, now: float) -> None:
        """Put ``rules`` in force at once, strict over what was sent; what ``set_quotas`` put beside them stays.

        A quota whose limits alone changed keeps its log; one that is new, or has other windows or platforms, is
        rebuilt from what is recorded. An attempt without an end that was not taken in this process was cut off by a
        crash and counts as answered now.
        """
        members: dict[str, set[str]] = {}
        for platform, rule in rules.platforms.items():
            for name in rule.quotas:
                members.setdefault(name, set()).add(platform)
        wanted = [(rules.quotas[name], frozenset(platforms)) for name, platforms in members.items()]
        quotas = self._fitted(wanted, sent, now)
        self._beside = {platform: names for platform, names in self._beside.items() if platform in rules.platforms}
        for names in self._beside.values():
            quotas.update((name, self._quotas[name]) for name in names)
        self._quotas, self._configured = quotas, rules.platforms
        self._named = {platform: self._of(platform) for platform in rules.platforms}

    def set_quotas(self, platform: str, quotas: Sequence[Quota], sent: Recorded, now: float) -> None:
        """Hold ``quotas`` on one platform beside the configured ones, in place of those set before; as ``configure``.

        Does nothing for a platform that is not configured.
        """
        if platform not in self._configured:
            return
        fitted = self._fitted([(quota, frozenset((platform,))) for quota in quotas], sent, now)
        for name in self._beside.get(platform, ()):
            del self._quotas[name]
        self._quotas.update(fitted)
        self._beside[platform] = tuple(fitted)
        self._named[platform] = self._of(platform)

    def _of(self, platform: str) -> tuple[_QuotaSlots, ...]:
        names = (*self._configured[platform].quotas, *self._beside.get(platform, ()))
        return tuple(self._quotas[name] for name in names)

    def _fitted(
        self, wanted: Iterable[tuple[Quota, frozenset[str]]], sent: Recorded, now: float
    ) -> dict[str, _QuotaSlots]:
        """Return slots by name for each quota and the platforms under it: the old ones where their log stays good."""
        quotas: dict[str, _QuotaSlots] = {}
        rebuilt: list[_QuotaSlots] = []
        for quota, members in wanted:
            old = self._quotas.get(quota.name)
            if old is not None and old.fits(quota, members):
                old.resize(quota)
                quotas[quota.name] = old
            else:
                quotas[quota.name] = fresh = _QuotaSlots(quota, members)
                rebuilt.append(fresh)
        self._rebuild(rebuilt, sent, now)
        return quotas

    def _rebuild(self, rebuilt: list[_QuotaSlots], sent: Recorded, now: float) -> None:
        limited = [slots for slots in rebuilt if slots.quota.rates]
        if not limited:
            return
        platforms = frozenset(platform for slots in limited for platform in slots.members)
        longest_s = max(rate.window_s for slots in limited for rate in slots.quota.rates)
        rows = [row for row in self._open.values() if row.platform in platforms]
        for row in sent(platforms, now - longest_s):
            if row.attempt_id not in self._open:
                rows.append(row if row.ended_at is not None else row._replace(ended_at=now))
        for slots in limited:
            slots.restore([row for row in rows if row.platform in slots.members], now)

    def _lines(self, platform: str, group: str | None, now: float) -> list[_Line]:
        """Return the lines of one group, or those that all groups share."""
        return [slots.line(group or "", now) for slots in self._holding(platform, group)]

    def _holding(self, platform: str, group: str | None) -> list[_QuotaSlots]:
        return [slots for slots in self._named.get(platform, ()) if slots.holds(group)]

    def ready(self, platform: str, group: str | None, now: float) -> WaitUntil | None:
        """Return None when the platform may send now, else until when it waits and why (``limit`` or ``share``).

        With ``group`` None only the quotas that all its groups share are asked. A refused platform waits in line; one
        that is let through leaves it, whether or not it sends.
        """
        party = platform
        lines = self._lines(platform, group, now)
        frees = [line.free_at(now) for line in lines]
        at = max(frees, default=now)
        if at > now:
            for line, free_at in zip(lines, frees, strict=True):
                if free_at > now:
                    line.turns.wait(party, free_at, share=False)
                else:
                    line.turns.leave(party)
            return WaitUntil(at, "limit")
        turns = [line.turns.turn_at(party, line.spare(now), now) for line in lines]
        at = max(turns, default=now)
        for line, turn_at in zip(lines, turns, strict=True):
            if turn_at > now:
                line.turns.wait(party, turn_at, share=True)
            else:
                line.turns.leave(party)
        return WaitUntil(at, "share") if at > now else None

    def partial_at(self, platform: str, group: str | None, now: float) -> float:
        """Return from when on the pace lets a partial batch go (SPEC 6, "When to send"); of any group when None."""
        return max((line.partial_at(now) for line in self._lines(platform, group, now)), default=0.0)

    def take(self, platform: str, group: str, attempt_id: int, now: float, purpose: Purpose = Purpose.FIRST) -> None:
        """Hold a slot of each of the platform's quotas for an attempt that is about to be sent."""
        self._open[attempt_id] = Sent(attempt_id, platform, group, now, None, 0.0, purpose)
        for slots in self._holding(platform, group):
            line = slots.line(group, now)
            line.take(attempt_id, now, slots.places[platform] * _PURPOSES + purpose)
            self._wakes.update(line.turns.served(platform))

    def name(self, attempt_id: int, purpose: Purpose) -> None:
        """Say what an attempt under way is for, where its slot had to be taken before that was known."""
        row = self._open.get(attempt_id)
        if row is not None and row.purpose != purpose:
            self._open[attempt_id] = row._replace(purpose=purpose)
            for slots in self._holding(row.platform, row.group):
                kind = slots.places[row.platform] * _PURPOSES + purpose
                slots.line(row.group, row.started_at).name(attempt_id, kind)

    def release(self, attempt_id: int, at: float, answer_s: float) -> None:
        """Start the way back of an attempt's slots: its answer or failure was seen ``at``, ``answer_s`` after the
        send. Attempts that are not under way in this process are ignored.
        """
        row = self._open.pop(attempt_id, None)
        if row is None:
            return
        for line in self._lines(row.platform, row.group, at):
            line.release(attempt_id, at, answer_s)
            self._wakes.update(line.turns.waiting_for_answers())

    def forget(self, attempt_id: int) -> None:
        """Give an attempt's slots back at once: its claim was rolled back, nothing was sent."""
        row = self._open.pop(attempt_id, None)
        if row is None:
            return
        for line in self._lines(row.platform, row.group, row.started_at):
            line.forget(attempt_id)
            self._wakes.update(line.turns.waiting_for_others())
            self._wakes.update(line.turns.waiting_for_answers())

    def drain_wakes(self) -> set[str]:
        """Return, once, the platforms whose wait was shortened by another's send or answer.

        The store calls its watcher with ``(platform, 0)`` for each after the commit.
        """
        wakes, self._wakes = self._wakes, set()
        return wakes

    def usage(self, platform: str, now: float) -> list[QuotaUse]:
        """Return what each window holds; of a quota per group, that of its fullest group."""
        found: list[QuotaUse] = []
        for slots in self._named.get(platform, ()):
            found += slots.fullest(now).usage(now, slots.places[platform])
        return found
