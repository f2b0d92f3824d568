"""What operators see of a platform's limits beyond the configured ones."""

import math
from collections.abc import Sequence

from msgspec.structs import replace

from relay.core.model import Rate
from relay.limits.estimator import yaml_line
from relay.limits.known import Known, Mode
from relay.limits.learner import Learner
from relay.views.limit_view import EvidenceView, LimitView, RateView, UnderneathView
from relay.views.moments import Instant, moment


def summary(learning: Learner, now: float) -> LimitView | None:
    """Return what there is to show; None where nothing is learned and nothing was set.

    ``source`` says where ``rates`` come from (learned, declared, operator, none), ``trying`` is a step beyond them that
    is under way, ``yaml`` the line that states them. Of an operator's limit nobody is sure or not, and its ``yaml`` is
    that of what was learned: ``after`` says what holds again once it has ended. Times are on the relay clock. Of
    several groups the one that holds least is told of.
    """
    operator, mode = learning.operator, learning.mode
    if mode is Mode.OFF and operator is None:
        return None
    limited = learning.groups
    group = min(limited, key=lambda name: _least_per_s(learning.known(name, now).rates), default="")
    known = learning.known(group, now)
    rates, source = (known.rates, known.source) if operator is None else (operator.rates, "operator")
    learned = known.estimate if source == "learned" else None
    trying = learning.trying(group)
    evidence = EvidenceView() if known.estimate is None else known.estimate.evidence
    return LimitView(
        mode=mode.value,
        source=source,
        rates=_listed(rates),
        enforced=bool(rates) and (mode is Mode.ENFORCE or operator is not None),
        trying=None if trying is None else str(trying),
        family="" if learned is None else learned.family.value,
        confidence=known.confidence if operator is None else None,
        evidence=replace(evidence, sentence=known.sentence),
        since=None if learned is None else moment(learned.since),
        until=None if operator is None or operator.until == math.inf else Instant(operator.until),
        reason="" if operator is None else operator.reason,
        after=None if operator is None else _beneath(known),
        yaml=yaml_line(known.limits if operator is None or known.source == "learned" else ()),
        group=group,
        groups=sum(1 for name in limited if name),
    )


def _beneath(known: Known) -> UnderneathView:
    return UnderneathView(known.source, _listed(known.rates), known.confidence)


def _listed(rates: Sequence[Rate]) -> list[RateView]:
    return [RateView(rate.limit, rate.window_s, str(rate)) for rate in rates]


def _least_per_s(rates: Sequence[Rate]) -> float:
    return min((rate.limit / rate.window_s for rate in rates), default=math.inf)
