"""The built-in rules: what of a snapshot somebody should be told. Plain functions; when it is told is not decided here.

A rule that cannot look (the store does not answer) says so, and what it found before stays as it was.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relay.alerts.facts import RelayFacts
from relay.config.schema.alerts import (
    AlertRule,
    CertificateRule,
    ClockStepRule,
    DeadLettersRule,
    DiskFullRule,
    HeldRule,
    LastingRule,
    LateRule,
    ObjectiveRule,
    ReconcileRule,
    StoreFullRule,
)
from relay.core.plural import count
from relay.views.past.objective import percent

Values = Mapping[str, int | float | str]


class AlertKey(NamedTuple):
    """Which alert: the rule, what it is about (a platform, a credential, or the relay itself) and a group within."""

    rule: str
    about: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is so now. ``grown`` is how many came to its group; ``values`` are what words are made with."""

    key: AlertKey
    values: Values = field(default_factory=dict)
    grown: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)  # of what came, by its exact kind
    after_s: float = 0.0  # it is told when it lasts so long


_Rule = Callable[[Any, RelayFacts, Collection[AlertKey]], Iterator[Trouble]]


def look(
    facts: RelayFacts, rules: Mapping[str, AlertRule], known: Collection[AlertKey]
) -> tuple[list[Trouble], frozenset[str]]:
    """Return what the rules find, and the names of those that could not look; ``known`` are the alerts there are."""
    blind = {"store-full"} if facts.used_percent is None else set()
    blind |= {"disk-full"} if facts.disk_free_bytes is None else set()
    blind |= {"unaccounted"} if facts.unaccounted is None else set()
    if facts.platforms is None:
        blind |= {"late", "expiring", "objective", "dead-letters", "held", "sealed", "broken", "limit-learned"}
    found = [
        trouble
        for name, rule in rules.items()
        if name not in blind
        for trouble in _RULES[name](rule, facts, [key for key in known if key.rule == name])
    ]
    return found, frozenset(blind)


def _late(rule: LateRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for name, platform in (facts.platforms or {}).items():
        if platform.oldest_due_s > rule.oldest_due and platform.out_per_s == 0.0:
            values: Values = {"age_s": platform.oldest_due_s, "pending": platform.pending, "state": platform.state}
            yield Trouble(AlertKey("late", name), values)


def _expiring(rule: LastingRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    """Find backlogs that outlive their callbacks. With ``expires: 24h`` that is one of these:

    1. The oldest has waited 12 hours: half its time.
    2. What waits takes more than 24 hours to drain.
    3. The backlog grows, and the oldest has waited 2.4 hours: a tenth of its time.
    """
    for name, platform in (facts.platforms or {}).items():
        drain_s, expires_s, oldest_s = platform.drain_s, platform.expires_s, platform.oldest_due_s
        if expires_s is None:
            continue
        drains_late = drain_s is not None and math.isfinite(drain_s) and drain_s > expires_s
        grows = drain_s == math.inf and oldest_s > expires_s / 10
        if oldest_s > expires_s / 2 or drains_late or grows:
            values: Values = {"pending": platform.pending, "expires_s": expires_s, "age_s": oldest_s}
            yield Trouble(AlertKey("expiring", name), values, after_s=rule.after)


def _objective(rule: ObjectiveRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    """Find platforms where more of the last hour's callbacks were late than twice what may be.

    With an objective of 99 % that is more than 2 of 100.
    """
    for name, platform in (facts.platforms or {}).items():
        kept = platform.objective
        if kept is None or (kept.burns is not None and kept.burns < rule.burns) or kept.ratio_1h == 1.0:
            continue
        values: Values = {
            "within_s": kept.within_seconds,
            "ratio": percent(kept.ratio_1h),
            "share": percent(kept.share),
            "remaining": percent(kept.remaining_24h),
        }
        yield Trouble(AlertKey("objective", name), values)


def _dead_letters(rule: DeadLettersRule, facts: RelayFacts, known: Collection[AlertKey]) -> Iterator[Trouble]:
    """One alert per platform and reason; it lasts until a person has retried or dropped the platform's dead letters."""
    for name, platform in (facts.platforms or {}).items():
        if platform.dead > rule.above:
            groups = {key.group for key in known if key.about == name} | {*platform.died}
            for group in sorted(groups):
                values: Values = {"dead": platform.dead, "group": group}
                grown, kinds = platform.died.get(group, 0), platform.died_of.get(group, {})
                yield Trouble(AlertKey("dead-letters", name, group), values, grown, kinds)


def _held(rule: HeldRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for name, platform in (facts.platforms or {}).items():
        if platform.held > rule.above:
            yield Trouble(AlertKey("held", name), {"held": platform.held})


def _sealed(_rule: AlertRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    """Somebody changed the file, or it holds what another key sealed; until the platform holds nothing any more."""
    for name, platform in (facts.platforms or {}).items():
        if platform.unopened and platform.held:
            yield Trouble(AlertKey("sealed", name), {"unopened": platform.unopened})


def _broken(rule: LastingRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for name, platform in (facts.platforms or {}).items():
        if platform.state == "broken":
            yield Trouble(AlertKey("broken", name), {"pending": platform.pending}, after_s=rule.after)


def _limit_learned(_rule: AlertRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for name, platform in (facts.platforms or {}).items():
        if platform.adopt:
            # The line is the group: another limit is another alert, and the one before ends.
            yield Trouble(AlertKey("limit-learned", name, platform.adopt), {"adopt": platform.adopt})


def _store_full(rule: StoreFullRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    if (facts.used_percent or 0.0) >= rule.above:
        left = {} if facts.full_in_s is None else {"left_s": facts.full_in_s}
        yield Trouble(AlertKey("store-full"), {"percent": round(facts.used_percent or 0.0), **left})


def _store_failed(_rule: AlertRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    if facts.store_failed:
        yield Trouble(AlertKey("store-failed"))


def _store_damaged(_rule: AlertRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    """It lasts until the relay starts again: on a salvaged or restored store, or until the damage is met again."""
    if facts.store_damage:
        yield Trouble(AlertKey("store-damaged"))


def _disk_full(rule: DiskFullRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    if facts.disk_free_bytes is not None and facts.disk_free_bytes < rule.free:
        yield Trouble(AlertKey("disk-full"), {"free_bytes": facts.disk_free_bytes})


def _reload_failed(_rule: AlertRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    if facts.refused_problems:
        yield Trouble(AlertKey("reload-failed"), {"problems": facts.refused_problems})


def _clock_step(rule: ClockStepRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    if abs(facts.clock_step_s) >= rule.step:
        direction = "+" if facts.clock_step_s > 0 else "-"
        yield Trouble(AlertKey("clock-step"), {"step_s": abs(facts.clock_step_s), "direction": direction})


def _unaccounted(_rule: AlertRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    if facts.unaccounted:
        yield Trouble(AlertKey("unaccounted"), {"unaccounted": facts.unaccounted})


def _certificate(rule: CertificateRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for (name, whose), left_s in facts.certificates.items():
        if left_s < rule.within:
            yield Trouble(AlertKey("certificate", name, whose), {"left_s": max(0.0, left_s), "whose": whose})


def _token(rule: LastingRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for name in facts.tokens_lacking:
        yield Trouble(AlertKey("token", name), {}, after_s=rule.after)


def _hosts(rule: LastingRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for about, what in facts.hosts_troubled.items():
        yield Trouble(AlertKey("hosts", about, what), {"what": what}, after_s=rule.after)


def _acceptors(rule: LastingRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    if facts.acceptors_lacking:
        yield Trouble(AlertKey("acceptors"), after_s=rule.after)


def _reveals(_rule: AlertRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for name in facts.reveals_refused:
        yield Trouble(AlertKey("reveals", name))


_COMPARED = {
    "": ("{orders} {differ} from what the order center has", "与订单中心有 {differences} 单不一致"),
    "failed": ("the comparison with the order center failed", "与订单中心的对账失败"),
    "incomplete": (
        "the comparison with the order center is incomplete: a side was not read whole",
        "与订单中心的对账不完整：有一边未读完",
    ),
    "missed": ("the comparison with the order center did not happen", "与订单中心的对账未执行"),
    "unrepaired": (
        "{orders} {differ} from what the order center has, more than may be repaired unasked: none was sent again",
        "与订单中心有 {differences} 单不一致，超出自动修复上限，均未重发",
    ),
}
_SENT = ("; {sent} of them {were} sent again", "，其中 {sent} 单已重发")
_BEFORE = (
    "; of what was sent again before, {repaired} {are} repaired and {unrepaired} not",
    "；上次重发的已修复 {repaired} 单，未修复 {unrepaired} 单",
)


def _reconcile(rule: ReconcileRule, facts: RelayFacts, _known: Collection[AlertKey]) -> Iterator[Trouble]:
    for name, last in facts.reconciled.items():
        if last.trouble or last.differences > rule.above:
            parts = [_COMPARED[last.trouble]]
            if last.sent:
                parts.append(_SENT)
            if last.repaired or last.unrepaired:
                parts.append(_BEFORE)
            told = {
                "orders": count(last.differences, "order"), "differ": "differs" if last.differences == 1 else "differ",
                "differences": last.differences,
                "sent": last.sent, "were": "was" if last.sent == 1 else "were",
                "repaired": last.repaired, "are": "is" if last.repaired == 1 else "are", "unrepaired": last.unrepaired,
            }  # fmt: skip
            en, zh = ("".join(words).format_map(told) for words in zip(*parts, strict=True))
            verify = f" --verify {last.run}" if last.sent else ""
            values: Values = {"en": en, "zh": zh, "verify": verify}
            yield Trouble(AlertKey("reconcile", name, last.trouble), values)


_RULES: dict[str, _Rule] = {
    "late": _late,
    "expiring": _expiring,
    "objective": _objective,
    "dead-letters": _dead_letters,
    "held": _held,
    "sealed": _sealed,
    "broken": _broken,
    "limit-learned": _limit_learned,
    "store-full": _store_full,
    "store-failed": _store_failed,
    "store-damaged": _store_damaged,
    "disk-full": _disk_full,
    "reload-failed": _reload_failed,
    "clock-step": _clock_step,
    "unaccounted": _unaccounted,
    "certificate": _certificate,
    "token": _token,
    "hosts": _hosts,
    "acceptors": _acceptors,
    "reveals": _reveals,
    "reconcile": _reconcile,
}
