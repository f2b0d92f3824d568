"""Settles a batch item by item, where the answer speaks of each one: the table "Results" of docs/state-machine.md.

Good items are delivered whatever happens to the others; a failed one spends its own budget only. An answer that
accepted something proves that the platform works, one that accepted nothing counts as a whole batch that failed.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from relay.core.model import Ask, Ending, Item, ItemVerdict, Outcome, Requeue, Settlement, State
from relay.policy.backoff import backoff_s, jittered_s
from relay.policy.gate.platform import GroupGate
from relay.policy.settle.attempted import Attempted, Budget

_DONE = (Outcome.OK, Outcome.DUPLICATE)

Judged = Sequence[tuple[Item, ItemVerdict]]


def settle_items(
    settlement: Settlement, attempted: Attempted, *, budget: Budget, gate: GroupGate, now: float, rng: random.Random
) -> Settlement:
    """Return what the verdicts per item change, and move ``gate``."""
    judged = list(zip(attempted.batch.items, attempted.verdict.items, strict=True))
    good = [item.seq for item, verdict in judged if verdict.outcome in _DONE]
    throttled = [(item, verdict) for item, verdict in judged if verdict.outcome is Outcome.THROTTLED]
    probing = gate.breaker.is_open
    if good:
        gate.accepted(now)
        if attempted.verdict.outcome in _DONE:
            gate.hold(now, started_at=attempted.started_at, wait_s=attempted.verdict.wait_s, rng=rng)
    else:
        _nothing_accepted(judged, attempted, gate=gate, now=now, rng=rng)
    spared = _throttle(throttled, attempted, gate=gate, now=now, rng=rng)
    if good:
        gate.suspicion.accepted(good)
    elif probing:  # a refused probe proves nothing against its items
        return replace(settlement, requeue=_back(judged, gate.opens_at(now)))
    requeue = _back(spared, gate.opens_at(now))
    endings: list[Ending] = []
    held: list[int] = []
    settled = {item.seq for item, _ in spared} | set(good)
    for item, verdict in judged:
        if item.seq in settled:
            continue
        if verdict.outcome is Outcome.CONFIRM:
            held.append(item.seq)
        elif verdict.outcome is Outcome.REJECT:
            endings.append(_dead(item, f"rejected: {verdict.reason}", verdict))
        else:
            part = retried(item, verdict, attempted, budget=budget, gate=gate, now=now, rng=rng)
            if isinstance(part, Requeue):
                requeue.append(part)
            else:
                endings.append(part)
    settlement = replace(settlement, delivered=good, requeue=requeue, endings=endings)
    return unclear(settlement, held, attempted, budget=budget, now=now, rng=rng)


def unclear(
    settlement: Settlement,
    seqs: Sequence[int],
    attempted: Attempted,
    *,
    budget: Budget,
    now: float,
    rng: random.Random,
) -> Settlement:
    """Hold items whose fate the answer leaves open for a person, or ask the platform back where that is configured."""
    if not seqs or attempted.read_back == "never":
        return replace(settlement, held=seqs)
    # A platform that answered oddly is given a moment before it is asked what it did.
    due_at = now + backoff_s(1, base_s=budget.base_s, cap_s=budget.cap_s, rng=rng)
    return replace(settlement, ask=Ask(seqs, due_at, attempted.verdict.reason))


def retried(
    item: Item,
    verdict: ItemVerdict,
    attempted: Attempted,
    *,
    budget: Budget,
    gate: GroupGate,
    now: float,
    rng: random.Random,
) -> Requeue | Ending:
    """Return an item that was certainly not applied to the queue while it has budget and time, else end it.

    As for whole batches an outage buries nothing: with nothing accepted since its first attempt it waits uncharged
    for the probe.
    """
    if item.expires_at <= now:
        return Ending([item.seq], State.EXPIRED, "expired", maybe_applied=item.maybe_applied, message=verdict.message)
    if item.spent < budget.times:
        due_at = now + backoff_s(item.spent + 1, base_s=budget.base_s, cap_s=budget.cap_s, rng=rng)
        if verdict.wait_s is not None:
            due_at = max(due_at, now + jittered_s(verdict.wait_s, rng))
        return Requeue([item.seq], due_at, True, verdict.reason, message=verdict.message)
    if gate.breaker.terms is not None and gate.last_accepted_at < (item.first_sent_at or attempted.started_at):
        gate.breaker.open(now, f"nothing accepted: {verdict.reason}", rng)
        return Requeue([item.seq], gate.opens_at(now), False, verdict.reason, message=verdict.message)
    return _dead(item, f"retries used up: {verdict.reason}", verdict)


def _nothing_accepted(judged: Judged, attempted: Attempted, *, gate: GroupGate, now: float, rng: random.Random) -> None:
    """Count the answer: as a failure when every item asks for a retry, towards a storm when none was throttled."""
    outcomes = {verdict.outcome for _, verdict in judged}
    reason = attempted.verdict.reason
    if outcomes == {Outcome.RETRY}:
        gate.failed(now, started_at=attempted.started_at, reason=reason, rng=rng, back_off=False)
        return
    if Outcome.THROTTLED in outcomes:
        return
    batch = attempted.batch
    probing = gate.breaker.is_open
    gate.answered()
    gate.breaker.refused(
        now,
        root=batch.root,
        batch=batch.number,
        items=len(batch.items),
        reason=reason,
        rng=rng,
        replayed=batch.replayed,
    )
    if probing:
        gate.breaker.open(now, gate.breaker.reason, rng)


def _throttle(
    throttled: Judged, attempted: Attempted, *, gate: GroupGate, now: float, rng: random.Random
) -> list[tuple[Item, ItemVerdict]]:
    """Stop the platform for throttled items and return them; those that always draw it alone are treated as retries."""
    spared = [(item, verdict) for item, verdict in throttled if not gate.suspicion.convicted([item.seq])]
    if spared:
        seqs = [item.seq for item, _ in spared]
        gate.suspicion.throttled(seqs, first_after_stop=attempted.first_after_stop)
        waits = [verdict.wait_s for _, verdict in spared if verdict.wait_s is not None]
        gate.throttle(
            now,
            started_at=attempted.started_at,
            wait_s=max(waits, default=attempted.verdict.wait_s),
            reason=spared[0][1].reason,
            rng=rng,
        )
    return spared


def _back(judged: Judged, due_at: float) -> list[Requeue]:
    """Return items to their places, uncharged, by what was said of them."""
    by_reason: dict[tuple[str, str], list[int]] = {}
    for item, verdict in judged:
        by_reason.setdefault((verdict.reason, verdict.message), []).append(item.seq)
    return [Requeue(seqs, due_at, False, reason, message=said) for (reason, said), seqs in by_reason.items()]


def _dead(item: Item, reason: str, verdict: ItemVerdict) -> Ending:
    return Ending([item.seq], State.DEAD, reason, maybe_applied=item.maybe_applied, message=verdict.message)
