"""Slots over shared and changing quotas: strict at every send, fair to who waits."""

import math
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from relay.core.model import PlatformRules, Quota, Rate, StoreRules, WaitUntil
from relay.policy.sharing import GRACE_S, MAX_PASSED
from relay.store.quota_lines import Sent
from relay.store.slots import Slots

PLATFORMS = "abc"


@st.composite
def any_rules(draw: st.DrawFn) -> StoreRules:
    """Two quotas of one or two windows, and who names them."""
    quotas = {}
    for name in ("q", "r"):
        windows = draw(st.lists(st.sampled_from([1.0, 5.0, 20.0]), min_size=1, max_size=2, unique=True))
        rates = tuple(Rate(draw(st.integers(1, 4)), window_s) for window_s in windows)
        quotas[name] = Quota(name, rates, draw(st.sampled_from([None, 2])), per_group=draw(st.booleans()))
        if draw(st.booleans()):
            quotas[name] = replace(quotas[name], per_group=False, group=draw(st.sampled_from(["", "g"])))
    named = {
        platform: PlatformRules(quotas=tuple(draw(st.lists(st.sampled_from(["q", "r"]), max_size=2, unique=True))))
        for platform in PLATFORMS
    }
    return StoreRules(quotas=quotas, platforms=named)


class Recorded:
    """The attempts as a store has them on disk."""

    def __init__(self) -> None:
        self.rows: list[Sent] = []

    def sent(self, platforms: frozenset[str], since: float) -> Iterable[Sent]:
        return [
            row for row in self.rows if row.platform in platforms and (row.ended_at is None or row.ended_at > since)
        ]

    def used(self, rules: StoreRules, platform: str, group: str, now: float) -> Iterable[tuple[int, int]]:
        """Count, for every window of a platform's quotas, the slots that are not free, with the limit."""
        for name in rules.platforms[platform].quotas:
            quota = rules.quotas[name]
            if quota.group not in (None, group):
                continue
            for rate in quota.rates:
                yield (
                    rate.limit,
                    sum(
                        name in rules.platforms[row.platform].quotas
                        and (not quota.per_group or row.group == group)
                        and quota.group in (None, row.group)
                        and (row.ended_at is None or row.ended_at + rate.window_s > now)
                        for row in self.rows
                    ),
                )


steps = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(PLATFORMS), st.sampled_from(["", "g"])),
    st.tuples(st.just("send"), st.sampled_from(PLATFORMS), st.sampled_from(["", "g"])),
    st.tuples(st.just("send"), st.sampled_from(PLATFORMS), st.sampled_from(["", "g"])),
    st.tuples(st.just("answer"), st.integers(0, 9)),
    st.tuples(st.just("advance"), st.sampled_from([0.125, 0.5, 2.0, 10.0])),
    st.tuples(st.just("configure"), any_rules()),
    st.tuples(st.just("crash")),
)


@given(any_rules(), st.lists(steps, max_size=60))
def test_strict_over_reloads_and_crashes(rules: StoreRules, script: list[tuple]) -> None:
    """A send is let through only with room in every window of every quota, counted from the recorded attempts."""
    slots, disk, now = Slots(), Recorded(), 100.0
    slots.configure(rules, disk.sent, now)
    for name, *arguments in script:
        if name == "advance":
            now += arguments[0]
        elif name == "configure":
            rules = arguments[0]
            slots.configure(rules, disk.sent, now)
        elif name == "crash":
            slots = Slots()
            slots.configure(rules, disk.sent, now)
            disk.rows = [row if row.ended_at is not None else row._replace(ended_at=now) for row in disk.rows]
        elif name == "answer":
            under_way = [row for row in disk.rows if row.ended_at is None]
            if under_way:
                row = under_way[arguments[0] % len(under_way)]
                disk.rows[disk.rows.index(row)] = row._replace(ended_at=now, answer_s=now - row.started_at)
                slots.release(row.attempt_id, now, now - row.started_at)
        else:
            platform, group = arguments
            wait = slots.ready(platform, group, now)
            room = all(used < limit for limit, used in disk.used(rules, platform, group, now))
            if wait is None:
                assert room
                slots.take(platform, group, len(disk.rows), now)
                disk.rows.append(Sent(len(disk.rows), platform, group, now, None, 0.0))
            else:
                assert wait.at > now
                bursty = any(rules.quotas[quota].burst for quota in rules.platforms[platform].quotas)
                assert wait.reason == "share" or not room or bursty


@settings(max_examples=40)
@given(
    st.integers(1, 30),
    st.integers(2, 5),
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
)
def test_everyone_who_waits_gets_a_share(limit: int, parties: int, hurry: list[int]) -> None:
    """While a party waits others send less than ten times, however much faster one of them asks; no slot is wasted."""
    names = [f"p{n}" for n in range(parties)]
    rules = StoreRules(
        quotas={"app": Quota("app", (Rate(limit, 1.0),))}, platforms={name: PlatformRules(("app",)) for name in names}
    )
    slots, now, attempt = Slots(), 100.0, 0
    slots.configure(rules, lambda platforms, since: [], now)
    refused_at: dict[str, int] = {}  # how many had been sent when a party was refused first
    asks_at = dict.fromkeys(names, now)
    for turn in range(20 * limit):
        now = max(now, min(asks_at.values()))
        ready = [name for name in names if asks_at[name] <= now]
        # The first party answers every wake-up before the others do, as often as the script says.
        for name in [ready[0]] * hurry[turn % len(hurry)] + ready:
            wait = slots.ready(name, "", now)
            if wait is None:
                slots.take(name, "", attempt, now)
                slots.release(attempt, now, 0.0)
                attempt += 1
                asks_at[name] = now
                assert attempt - refused_at.pop(name, attempt) <= MAX_PASSED + parties <= 9
            else:
                refused_at.setdefault(name, attempt)
                asks_at[name] = wait.at
            for woken in slots.drain_wakes():
                asks_at[woken] = now
    assert attempt >= limit * int(now - 100.0)


@given(st.integers(1, 5), st.integers(0, 20))
def test_nobody_waits_for_the_absent(limit: int, absent: int) -> None:
    """Any number of parties that stood in line and vanished cost the others one grace together."""
    names = ["here", *(f"gone{n}" for n in range(absent))]
    rules = StoreRules(
        quotas={"app": Quota("app", (Rate(limit, 10.0),))}, platforms={name: PlatformRules(("app",)) for name in names}
    )
    slots = Slots()
    slots.configure(rules, lambda platforms, since: [], 0.0)
    for attempt in range(limit):
        assert slots.ready("here", "", 0.0) is None
        slots.take("here", "", attempt, 0.0)
        slots.release(attempt, 0.0, 0.0)
    for name in names[1:]:
        assert slots.ready(name, "", 1.0) is not None
    now, waited = 10.0, 0.0
    while (wait := slots.ready("here", "", now)) is not None:
        assert wait.reason == "share"
        waited += wait.at - now
        now = wait.at
    assert waited <= GRACE_S * math.ceil(absent / limit)


def test_cut_off_by_a_crash_counts_from_the_restart() -> None:
    """An attempt without an answer that this process did not send holds its slot one window from the restart."""
    rules = StoreRules(quotas={"app": Quota("app", (Rate(2, 10.0),))}, platforms={"a": PlatformRules(("app",))})
    disk = Recorded()
    disk.rows = [Sent(1, "a", "", 100.0, None, 0.0), Sent(2, "a", "", 100.0, 102.0, 2.0)]
    slots = Slots()
    slots.configure(rules, disk.sent, 109.0)
    assert slots.ready("a", "", 109.0) == WaitUntil(112.0, "limit")
    slots.take("a", "", 3, 112.0)
    assert slots.ready("a", "", 112.0) == WaitUntil(119.0, "limit")


def test_forgotten_claim_gives_its_slot_back() -> None:
    """A claim that was rolled back holds no slot, and whoever waited for it is woken."""
    rules = StoreRules(
        quotas={"app": Quota("app", (Rate(1, 10.0),))},
        platforms={"a": PlatformRules(("app",)), "b": PlatformRules(("app",))},
    )
    slots = Slots()
    slots.configure(rules, lambda platforms, since: [], 0.0)
    slots.take("a", "", 1, 0.0)
    assert slots.ready("b", "", 0.0) is not None
    slots.forget(1)
    assert slots.drain_wakes() == {"b"}
    assert slots.ready("b", "", 0.0) is None


def test_idle_groups_are_swept() -> None:
    """Groups that are back at rest take no memory; those that hold slots stay."""
    rules = StoreRules(
        quotas={"app": Quota("app", (Rate(1, 10.0),), per_group=True)}, platforms={"a": PlatformRules(("app",))}
    )
    slots = Slots()
    slots.configure(rules, lambda platforms, since: [], 0.0)
    slots.take("a", "busy", -1, 0.0)
    for number in range(1000):
        now = number * 1.0
        assert slots.ready("a", f"g{number}", now) is None
        slots.take("a", f"g{number}", number, now)
        slots.release(number, now, 0.0)
    assert len(slots._quotas["app"]._lines) < 150
    assert slots.ready("a", "busy", 1000.0) is not None
