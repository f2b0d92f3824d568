"""What is known of one platform's limits: learned from its answers, declared by it, or set by an operator.

An operator's limit, while it lasts, takes the place of the others. What a platform declares beats what was learned
about a window as long. The configured rates hold beside all of them. Where a platform has groups (shops), refusals
teach about the group that drew them, and those that are the platform's about all of them.
"""

import math
from collections.abc import Sequence

from relay.core.model import Quota, Rate
from relay.core.raw import Kept
from relay.limits.estimator import Estimator, floored
from relay.limits.evidence.history import Signal
from relay.limits.in_force.limit import near
from relay.limits.known import Known, LearnTerms, Mode, News, OperatorLimit, numbers, rates_of

# Groups with evidence of their own, about 30 KB each; of more, those that were never refused twice are forgotten first.
MOST_GROUPS = 64
_NOTHING_REPORTED: tuple[tuple[Rate, ...], bool] = ((), False)
_DECLARED_NEWS_S = 60.0  # a platform that declares another limit with every answer is told of no more often


class Learner:
    """One platform's limits beyond the configured ones. Times are relay-clock seconds.

    The caller puts ``quotas`` in force whenever ``changed`` is set or ``ends_at`` has passed, keeps one request under
    way while ``careful``, and keeps ``dump`` when ``unkept`` is set.
    """

    def __init__(self, platform: str, *, destination: str, terms: LearnTerms, grouped: bool) -> None:
        self.platform = platform
        self.destination = destination  # host and port: what was learned of one says nothing about another
        self.changed = True  # what a predecessor put in force is to be replaced
        self.unkept = False
        self._terms = terms
        self._grouped = grouped
        self._careful_ones: list[Estimator] = []
        self._operator: OperatorLimit | None = None
        self._declared: tuple[Rate, ...] = ()
        self._reported: dict[str, tuple[tuple[Rate, ...], bool]] = {}
        self._declared_reported_at = -math.inf
        self._estimators: dict[str, Estimator] = {}
        self._begin("")

    @property
    def ends_at(self) -> float:
        """When an operator's limit ends; infinite when there is none, or it lasts until forgotten."""
        return math.inf if self._operator is None else self._operator.until

    @property
    def enforces(self) -> bool:
        """Whether what is learned or declared is enforced."""
        return self._terms.mode is Mode.ENFORCE and self._operator is None

    # what happens on the wire

    def sent(self, token: int, group: str, now: float) -> None:
        """Note that request ``token`` goes out for ``group`` ("" without groups)."""
        for name in {"", group}:
            estimator = self._estimators.get(name)
            if estimator is not None:
                estimator.sent(token, now)

    def answered(
        self, token: int, group: str, *, kind: Signal, sent_at: float, now: float, wait_s: float | None, whole: bool
    ) -> None:
        """Note what came of ``token``; ``wait_s`` is the wait asked for, ``whole`` says it is about all groups."""
        platform = self._estimators.get("")
        if platform is None:
            return
        about_all = whole or not group or kind is Signal.DOWN or kind is Signal.ACCEPTED
        self._learn(platform, token, kind if about_all else Signal.FAILED, now, wait_s)
        if not group:
            return
        own = self._estimators.get(group)
        about_it = kind is Signal.ACCEPTED or not (whole or kind is Signal.DOWN)
        if own is None:
            if not about_it or kind in (Signal.ACCEPTED, Signal.FAILED):
                return  # evidence of a group is gathered from its first refusal on
            own = self._begin(group)
            if own is None:
                return
            own.sent(token, sent_at)
        self._learn(own, token, kind if about_it else Signal.FAILED, now, wait_s)

    def careful(self, now: float) -> bool:
        """Say whether one request at a time may be under way: the next may well be more than is allowed.

        That holds for the platform, so of a group's own limit only while more is tried: one group that is at its limit
        must not hold up the others.
        """
        return any(estimator.careful(now) for estimator in self._careful_ones)

    def patience_s(self, group: str) -> float:
        """Return how long ``group`` stops at least after a second refusal in a row: a limit does not open at once."""
        known = [self._estimators[name].patience_s for name in {"", group} if name in self._estimators]
        return max(known, default=0.0)

    def forget_token(self, token: int, group: str) -> None:
        """Drop a request that says nothing: the relay itself failed, or its callback is the cause of the refusal."""
        for name in {"", group}:
            if name in self._estimators:
                self._estimators[name].forget_token(token)

    def declared(self, rates: Sequence[Rate]) -> None:
        """Take note of the limits the platform states in its answers; with groups each has them to itself."""
        if self._terms.mode is not Mode.OFF and tuple(rates) != self._declared:
            self._declared = tuple(rates)
            self.changed = self.unkept = True

    def _learn(self, estimator: Estimator, token: int, kind: Signal, now: float, wait_s: float | None) -> None:
        estimator.answered(token, now, kind, wait_s)
        self.changed |= estimator.changed
        self.unkept |= estimator.unkept

    def _begin(self, group: str) -> Estimator | None:
        if self._terms.mode is Mode.OFF:
            return None
        if len(self._estimators) > MOST_GROUPS:
            idle = next((name for name, each in self._estimators.items() if name and not each.knows), None)
            if idle is None:
                return None
            del self._estimators[idle]
        self._estimators[group] = estimator = Estimator(floor=self._terms.floor)
        return estimator

    # what people say

    def configure(self, terms: LearnTerms, *, grouped: bool) -> None:
        """Put other terms in force; what was learned stays, unless it can no longer be meant."""
        if grouped != self._grouped:
            self._operator, self._declared = None, ()
            self.unlearn()  # what was learned of groups says nothing of a platform without them, or the other way round
        self._terms, self._grouped = terms, grouped
        if terms.mode is Mode.OFF:
            self._estimators.clear()
            self._declared = ()
        elif "" not in self._estimators:
            self._begin("")
        for estimator in self._estimators.values():
            estimator.floor = terms.floor
        self.changed = self.unkept = True

    def set(self, operator: OperatorLimit) -> None:
        """Put an operator's limit in the place of what was learned or declared."""
        self._operator = operator
        self.changed = self.unkept = True

    def forget(self) -> None:
        """Drop everything, an operator's limit too, and begin anew."""
        self._operator, self._declared = None, ()
        for estimator in self._estimators.values():
            estimator.forget()
        self.changed = self.unkept = True

    def unlearn(self) -> None:
        """Drop all that was learned, with the evidence, but not what was declared or set."""
        self._estimators.clear()
        self._begin("")
        self.changed = self.unkept = True

    # what holds

    def quotas(self, now: float) -> list[Quota]:
        """Return the quotas to put in force beside the configured ones, and clear ``changed``."""
        self.changed = False
        if now >= self.ends_at:
            self._operator, self.unkept = None, True
        passive = self._operator is not None or self._terms.mode is not Mode.ENFORCE
        found: list[Quota] = []
        self._careful_ones = []
        for group, estimator in self._estimators.items():
            estimator.observing = passive
            rates = tuple(rate for rate in estimator.enforced() if not self._is_declared(rate))
            if not group or estimator.trying is not None:
                self._careful_ones.append(estimator)
            if rates:
                name = f"learned:{self.platform}" + (f"/{group}" if group else "")
                found.append(Quota(name, rates, group=group or None))
        if self._operator is not None:
            return [Quota(f"operator:{self.platform}", self._operator.rates, per_group=self._grouped)]
        if passive:
            return []
        if self._declared:
            rates = tuple(floored(rate, self._terms.floor) for rate in self._declared)
            found.append(Quota(f"declared:{self.platform}", rates, per_group=self._grouped))
        return found

    def _is_declared(self, rate: Rate) -> bool:
        return any(near(rate.window_s, stated.window_s) for stated in self._declared)

    # what people see

    @property
    def mode(self) -> Mode:
        """What is done with what is learned and declared."""
        return self._terms.mode

    @property
    def operator(self) -> OperatorLimit | None:
        """The limit an operator set, if one is in force."""
        return self._operator

    @property
    def groups(self) -> list[str]:
        """The groups of which a limit was learned, "" for the platform as a whole."""
        return [group for group, each in self._estimators.items() if each.knows]

    def trying(self, group: str) -> Rate | None:
        """Return the step beyond what is believed of a group that is under way, or None."""
        estimator = self._estimators.get(group)
        return None if estimator is None else estimator.trying

    def known(self, group: str, now: float) -> Known:
        """Return what is believed of a group ("" for the platform as a whole), an operator's word aside."""
        estimator = self._estimators.get(group)
        estimate = None if estimator is None else estimator.estimate(now)
        learned = () if estimate is None else tuple(rate for rate in estimate.rates if not self._is_declared(rate))
        declared = () if group else self._declared
        rates = tuple(sorted({*learned, *declared}, key=lambda rate: rate.window_s))
        return Known(rates, "declared" if declared else "learned" if learned else "none", estimate)

    def news(self, now: float) -> list[News]:
        """Return, once, which limits are believed that were not before: steps beyond a limit are no news.

        Nor are more than one a minute of a platform that declares another limit with every answer.
        """
        found = []
        for group in {*self._estimators, *self._reported}:
            known = self.known(group, now)
            if known.news_key == self._reported.get(group, _NOTHING_REPORTED):
                continue
            if known.source == "declared":
                if now - self._declared_reported_at < _DECLARED_NEWS_S:
                    continue
                self._declared_reported_at = now
            if known.rates:
                self._reported[group] = known.news_key
            else:
                del self._reported[group]
            found.append(News(group, known))
        return found

    # persistence

    def dump(self) -> Kept:
        """Return what a restart needs, fit for JSON: limits, not the evidence for them."""
        self.unkept = False
        kept: Kept = {
            "version": 1,
            "destination": self.destination,
            "grouped": self._grouped,
            "groups": {group: each.dump() for group, each in self._estimators.items() if each.knows or not group},
            "declared": numbers(self._declared),
        }
        if self._operator is not None:
            kept["operator"] = self._operator.dump()
        return kept

    def load(self, kept: Kept) -> None:
        """Continue from ``dump``, unless it is about another destination.

        Raises ``ValueError`` when it is not a dump; what was read until then is kept.
        """
        if not kept or kept.get("destination") != self.destination:
            return
        operator = OperatorLimit.load(kept["operator"]) if kept.get("operator") is not None else None
        if operator is not None and operator.rates:
            self._operator = operator
        self.changed = True
        if self._terms.mode is Mode.OFF or bool(kept.get("grouped")) != self._grouped:
            return
        self._declared = rates_of(kept.get("declared", ()))
        for group, estimate in kept.get("groups", {}).items():
            estimator = self._estimators.get(group) or self._begin(group)
            if estimator is not None:
                estimator.load(estimate)
        for group in self._estimators:
            known = self.known(group, 0.0)
            if known.rates:
                self._reported[group] = known.news_key
