"""What people are shown of a platform's limits beyond the configured ones."""

import math
from collections.abc import Sequence
from typing import Any

from relay.core.model import Rate
from relay.policy.belief import Mode
from relay.policy.estimate import yaml_line
from relay.policy.learning import Learning


def shown(learning: Learning, now: float) -> dict[str, Any] | None:
    """Return what there is to show, fit for JSON; None where nothing is learned and nothing was set.

    ``source`` says where ``rates`` come from (learned, declared, operator, none), ``trying`` is a step beyond them that
    is under way, ``yaml`` the line that states them. Times are on the relay clock. Of several groups the one that
    holds least is told of.
    """
    operator, mode = learning.operator, learning.mode
    if mode is Mode.OFF and operator is None:
        return None
    limited = learning.groups
    group = min(limited, key=lambda name: _least_per_s(learning.believed(name, now).rates), default="")
    belief = learning.believed(group, now)
    rates, source = (belief.rates, belief.source) if operator is None else (operator.rates, "operator")
    learned = belief.estimate if source == "learned" else None
    trying = learning.trying(group)
    evidence = {} if belief.estimate is None else dict(belief.estimate.evidence)
    return {
        "mode": mode.value,
        "source": source,
        "rates": [{"limit": rate.limit, "window_s": rate.window_s, "text": str(rate)} for rate in rates],
        "enforced": bool(rates) and (mode is Mode.ENFORCE or operator is not None),
        "trying": None if trying is None else str(trying),
        "family": "" if learned is None else learned.family.value,
        "confidence": belief.confidence if operator is None else 1.0,
        "evidence": {**evidence, "sentence": belief.sentence},
        "since": None if learned is None else learned.since,
        "until": None if operator is None or operator.until == math.inf else operator.until,
        "reason": "" if operator is None else operator.reason,
        "yaml": yaml_line(belief.limits if operator is None else rates),
        "group": group,
        "groups": sum(1 for name in limited if name),
    }


def _least_per_s(rates: Sequence[Rate]) -> float:
    return min((rate.limit / rate.window_s for rate in rates), default=math.inf)
