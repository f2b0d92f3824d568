"""Slots over all quotas: who may send when, shared by all stores.

One ``Slots`` belongs to one thread. It keeps in memory what the recorded attempts and lent slots say; ``configure`` and
``set_quotas`` rebuild a quota from them, so that limits hold over restarts, kill -9 and reloads (SPEC 5 and 6). The
store asks ``ready`` and calls ``take`` in the same step that records the attempt; after each commit it passes
``drain_wakes`` on to its watcher. Slots that others take of the same limits (``ready_for``, ``lend``) work alike.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from relay.core.lending import OTHERS, LimitName
from relay.core.model import PlatformRules, Purpose, Quota, StoreRules, WaitUntil, Weight
from relay.policy.credits import Credits
from relay.store.quota_lines import QuotaLine, QuotaSlots, Recorded, Sent, kind_of
from relay.views.queue import QuotaUse

_ALONE = Weight()


class Slots:
    """The slots of every quota in force. Times are seconds on the relay clock."""

    def __init__(self, shift_s: Callable[[], float] = lambda: 0.0) -> None:
        """``shift_s``: how far wall time is ahead of the relay clock, for windows that begin at a fixed time."""
        self._shift_s = shift_s
        self._shares: dict[str, int] = {}
        self._group_credits: dict[str, Credits[str]] = {}
        self.weighing: frozenset[str] = frozenset()  # platforms of which more is counted than requests
        self._quotas: dict[str, QuotaSlots] = {}
        self._named: dict[str, tuple[QuotaSlots, ...]] = {}
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
        # One that no platform names is there for others.
        wanted = [(quota, frozenset(members.get(name, ()))) for name, quota in rules.quotas.items()]
        self._shares = {name: rule.share for name, rule in rules.platforms.items() if rule.share != 1}
        self._group_credits = {
            name: Credits(rule.group_share) for name, rule in rules.platforms.items() if rule.group_share
        }
        quotas = self._fitted(wanted, sent, now)
        self._beside = {platform: names for platform, names in self._beside.items() if platform in rules.platforms}
        for names in self._beside.values():
            quotas.update((name, self._quotas[name]) for name in names)
        self._quotas, self._configured = quotas, rules.platforms
        self._named = {platform: self._of(platform) for platform in rules.platforms}
        self.weighing = frozenset(
            platform
            for platform, named in self._named.items()
            if any(rate.unit != "requests" for slots in named for rate in slots.quota.rates)
        )

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

    def _of(self, platform: str) -> tuple[QuotaSlots, ...]:
        names = (*self._configured[platform].quotas, *self._beside.get(platform, ()))
        return tuple(self._quotas[name] for name in names)

    def _fitted(
        self, wanted: Iterable[tuple[Quota, frozenset[str]]], sent: Recorded, now: float
    ) -> dict[str, QuotaSlots]:
        """Return slots by name for each quota and the platforms under it: the old ones where their log stays good."""
        quotas: dict[str, QuotaSlots] = {}
        rebuilt: list[QuotaSlots] = []
        for quota, members in wanted:
            old = self._quotas.get(quota.name)
            shares = {name: self._shares[name] for name in members if name in self._shares}
            if old is not None and old.fits(quota, members, shares):
                old.resize(quota)
                quotas[quota.name] = old
            else:
                quotas[quota.name] = fresh = QuotaSlots(quota, members, self._shift_s, shares)
                rebuilt.append(fresh)
        self._rebuild(rebuilt, sent, now)
        return quotas

    def _rebuild(self, rebuilt: list[QuotaSlots], sent: Recorded, now: float) -> None:
        limited = [slots for slots in rebuilt if slots.quota.rates]
        if not limited:
            return
        platforms = frozenset(platform for slots in limited for platform in slots.members)
        longest_s = max(rate.window_s for slots in limited for rate in slots.quota.rates)
        rows = [row for row in self._open.values() if row.platform in platforms]
        for row in sent(platforms, now - longest_s):
            if row.purpose == Purpose.EXTERNAL or row.attempt_id not in self._open:
                rows.append(row if row.ended_at is not None else row._replace(ended_at=now))
        for slots in limited:
            slots.restore([row for row in rows if slots.counts(row)], now)

    def _lines(self, platform: str, group: str | None, now: float) -> list[QuotaLine]:
        """Return the lines of one group, or those that all groups share."""
        return [slots.line(group or "", now) for slots in self._holding(platform, group)]

    def _holding(self, platform: str, group: str | None) -> list[QuotaSlots]:
        return [slots for slots in self._named.get(platform, ()) if slots.holds(group)]

    def ready(self, platform: str, group: str | None, now: float) -> WaitUntil | None:
        """Return None when the platform may send now, else until when it waits and why (``limit`` or ``share``).

        With ``group`` None only the quotas that all its groups share are asked. A refused platform waits in line; one
        that is let through leaves it, whether or not it sends.
        """
        lines = self._lines(platform, group, now)
        return _turn(lines, [line.free_at(now) for line in lines], platform, now)

    def ready_for(self, of: LimitName, count: int, now: float, *, waits: bool) -> WaitUntil | None:
        """Return None when others may take ``count`` slots now, else until when they wait and why (also ``never``).

        All who take slots are one party in line, in turn with the platforms; with ``waits`` they stand in it.
        """
        lines = [slots.line(of.group, now) for slots in self._lending(of)]
        if any(count > line.most for line in lines):
            return WaitUntil(math.inf, "never")
        at = max((line.room_at(now, count) for line in lines), default=now)
        if at == now:
            # What is kept for others is nobody's turn but theirs.
            lines = [line for line in lines if line.free_at(now) <= now]
        return _turn(lines, [line.room_at(now, count) for line in lines], OTHERS, now, waits=waits)

    def knows(self, of: LimitName) -> bool:
        """Say whether there are such limits here."""
        return of.platform in self._named if of.platform else of.quota in self._quotas

    def lend(self, of: LimitName, now: float, until: float) -> None:
        """Hold a slot for somebody who was answered by ``until`` at the latest."""
        for slots in self._lending(of):
            line = slots.line(of.group, now)
            line.lend(now, until, kind_of(Purpose.EXTERNAL, of.platform, slots.places))
            self._wakes.update(line.turns.served(OTHERS))

    def take_back(self, of: LimitName, until: float, now: float) -> None:
        """Give a slot back that was lent until then."""
        for slots in self._lending(of):
            line = slots.line(of.group, now)
            line.take_back(until, kind_of(Purpose.EXTERNAL, of.platform, slots.places))
            self._wakes.update(line.turns.everybody())

    def moved(self, of: LimitName, until: float, at: float) -> None:
        """Let a lent slot's way back start ``at``: its answer was seen."""
        for slots in self._lending(of):
            line = slots.line(of.group, at)
            kind = kind_of(Purpose.EXTERNAL, of.platform, slots.places)
            line.take_back(until, kind)
            line.lend_again(at, kind)
            self._wakes.update(line.turns.everybody())

    def _lending(self, of: LimitName) -> list[QuotaSlots]:
        if of.platform:
            return self._holding(of.platform, of.group)
        quota = self._quotas.get(of.quota)
        return [] if quota is None else [quota]

    def partial_at(self, platform: str, group: str | None, now: float) -> float:
        """Return from when on the pace lets a partial batch go (SPEC 6, "When to send"); of any group when None."""
        return max((line.partial_at(now) for line in self._lines(platform, group, now)), default=0.0)

    def group_turn_is_over(self, platform: str, group: str) -> bool:
        """Count that a group goes; say whether the next one is first now."""
        given = self._group_credits.get(platform)
        return given is None or given.turn_is_over(group)

    def left(self, platform: str, group: str | None, now: float) -> dict[str, int]:
        """Return how much is free of each unit but requests that is counted."""
        found: dict[str, int] = {}
        for line in self._lines(platform, group, now):
            for unit, count in line.left(now).items():
                found[unit] = min(count, found.get(unit, count))
        return found

    def fits_at(self, platform: str, group: str | None, weight: Weight, now: float) -> float:
        """Return ``now`` when a request of this weight may go, else when it may."""
        return max((line.fits_at(weight, now) for line in self._lines(platform, group, now)), default=now)

    def cut_at(self, platform: str, group: str | None, weight: Weight, now: float) -> float:
        """Return from when on a batch is cut to what is left, instead of waiting for all of ``weight``."""
        return max((line.cut_at(weight, now) for line in self._lines(platform, group, now)), default=now)

    def take(
        self,
        platform: str,
        group: str,
        attempt_id: int,
        now: float,
        purpose: Purpose = Purpose.FIRST,
        weight: Weight = _ALONE,
    ) -> None:
        """Hold a slot of each of the platform's quotas for an attempt that is about to be sent."""
        self._open[attempt_id] = Sent(attempt_id, platform, group, now, None, 0.0, purpose, weight=weight)
        for slots in self._holding(platform, group):
            line = slots.line(group, now)
            line.take(attempt_id, now, kind_of(purpose, platform, slots.places), weight)
            self._wakes.update(line.turns.served(platform))

    def holds(self, attempt_id: int) -> bool:
        """Say whether an attempt is under way in this process."""
        return attempt_id in self._open

    def name(self, attempt_id: int, purpose: Purpose) -> None:
        """Say what an attempt under way is for, where its slot had to be taken before that was known."""
        row = self._open.get(attempt_id)
        if row is not None and row.purpose != purpose:
            self._open[attempt_id] = row._replace(purpose=purpose)
            for slots in self._holding(row.platform, row.group):
                kind = kind_of(purpose, row.platform, slots.places)
                slots.line(row.group, row.started_at).name(attempt_id, kind)

    def release(self, attempt_id: int, at: float, answer_s: float, wire_bytes: int = 0) -> None:
        """Start the way back of an attempt's slots: its answer or failure was seen ``at``, ``answer_s`` after the
        send. Attempts that are not under way in this process are ignored.
        """
        row = self._open.pop(attempt_id, None)
        if row is None:
            return
        for line in self._lines(row.platform, row.group, at):
            line.release(attempt_id, at, answer_s, wire_bytes)
            self._wakes.update(line.turns.waiting_for_answers())

    def forget(self, attempt_id: int) -> None:
        """Give an attempt's slots back at once: its claim was rolled back, nothing was sent."""
        row = self._open.pop(attempt_id, None)
        if row is None:
            return
        for line in self._lines(row.platform, row.group, row.started_at):
            line.forget(attempt_id)
            self._wakes.update(line.turns.everybody())

    def leave(self, platforms: Container[str]) -> None:
        """Let go of what is under way for platforms that are another host's now: it is never answered here.

        Where they come back, its slots are those of any recorded attempt.
        """
        self._open = {number: row for number, row in self._open.items() if row.platform not in platforms}

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


def _turn(
    lines: Sequence[QuotaLine], frees: Sequence[float], party: str, now: float, *, waits: bool = True
) -> WaitUntil | None:
    """Return None when ``party`` may go, given when each line has room for it; else until when and why it waits."""
    at = max(frees, default=now)
    if at > now:
        for line, free_at in zip(lines, frees, strict=True):
            if free_at > now and waits:
                line.turns.wait(party, free_at, share=False)
            elif waits:
                line.turns.leave(party)
        return WaitUntil(at, "limit")
    turns = [line.turns.turn_at(party, line.spare(now), now) for line in lines]
    at = max(turns, default=now)
    for line, turn_at in zip(lines, turns, strict=True):
        if turn_at > now and waits:
            line.turns.wait(party, turn_at, share=True)
        elif waits:
            line.turns.leave(party)
    return WaitUntil(at, "share") if at > now else None
