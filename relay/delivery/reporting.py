"""What a pipeline reports of its platform: each settled attempt, and each limit that was found out."""

from relay.core.model import Batch, Outcome, State
from relay.core.settlement import Settlement
from relay.limits.estimator import yaml_line
from relay.limits.known import News
from relay.policy.gate.platform import Gate
from relay.policy.objective import Objective
from relay.telemetry.events import Events, LimitReport


def report_settled(
    events: Events,
    batch: Batch,
    settlement: Settlement,
    *,
    gate: Gate,
    was_open: bool,
    was_plain: bool,
    objective: Objective | None,
) -> None:
    """Report what came of an attempt, once it is committed; ``was_open`` is the breaker before it."""
    platform, result = batch.platform, settlement.result
    if result.outcome is not Outcome.UNSENT:
        events.attempt(batch, result)
    if settlement.delivered:
        ended_at, good = result.ended_at, set(settlement.delivered)
        delivered = [item for item in batch.items if item.seq in good]
        events.delivered(
            platform=platform,
            latencies=[ended_at - item.accepted_at for item in delivered],
            late=0 if objective is None else objective.late(delivered, ended_at),
        )
    if settlement.resend is not None or settlement.requeue:
        again = sum(len(part.seqs) for part in settlement.requeue) or len(batch.items)
        events.retried(platform=platform, count=again, reason=result.outcome)
    if settlement.held:
        events.held(platform=platform, count=len(settlement.held), reason=result.reason)
    for ending in settlement.endings:
        if ending.state is State.EXPIRED:
            events.expired(platform=platform, count=len(ending.seqs), reason=ending.reason)
        else:
            events.dead(platform=platform, count=len(ending.seqs), reason=ending.reason)
    _report_gate(events, batch, settlement, gate=gate, was_open=was_open, was_plain=was_plain)


def _report_gate(
    events: Events, batch: Batch, settlement: Settlement, *, gate: Gate, was_open: bool, was_plain: bool
) -> None:
    platform, result = batch.platform, settlement.result
    stop = gate.groups.get(batch.group)
    if (gate.throttled or stop.throttled) and result.outcome is Outcome.THROTTLED:
        wait_s = max(stop.stopped_until, gate.stopped_until) - result.ended_at
        events.throttled(platform=platform, wait_s=max(0.0, wait_s), reason=result.reason)
    if gate.coding.plain and not was_plain:
        events.plain_remembered(platform=platform)
    if gate.breaker.is_open and not was_open:
        events.breaker_opened(platform=platform, reason=gate.breaker.reason)
    elif was_open and not gate.breaker.is_open:
        events.breaker_closed(platform=platform)


def report_limit(events: Events, platform: str, news: News, *, enforced: bool) -> None:
    """Report a limit that is believed since just now, or no longer, with the line that states it."""
    known = news.known
    events.limit_learned(
        LimitReport(
            platform=platform,
            group=news.group,
            source=known.source,
            rates=[str(rate) for rate in known.rates],
            enforced=enforced,
            confidence=known.confidence,
            evidence=known.sentence,
            adopt="" if news.group else yaml_line(known.limits),  # a group's rate is not the platform's
        )
    )
