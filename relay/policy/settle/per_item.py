"""Settles a batch item by item, where the answer speaks of each one: the table "Results" of docs/state-machine.md.

Good items are delivered whatever happens to the others; a failed one spends its own budget only. An answer that
accepted something proves that the platform works, one that accepted nothing counts as a whole batch that failed.
"""

from collections.abc import Sequence
from dataclasses import replace

from relay.core.model import Item, ItemVerdict, Outcome, State
from relay.core.settlement import Ask, Ending, Requeue, Settlement
from relay.policy.backoff import jittered_s
from relay.policy.settle.attempted import Settling

Judged = Sequence[tuple[Item, ItemVerdict]]


def settle_items(settling: Settling) -> Settlement:
    """Return what the verdicts per item change, and move the gate."""
    gate = settling.gate
    judged = list(zip(settling.items, settling.verdict.items, strict=True))
    good = [item.seq for item, verdict in judged if verdict.outcome.accepted]
    throttled = [(item, verdict) for item, verdict in judged if verdict.outcome is Outcome.THROTTLED]
    probing = gate.breaker.is_open
    if good:
        settling.accepted()
    else:
        _nothing_accepted(settling, judged)
    spared = _throttle(settling, throttled)
    if good:
        gate.suspicion.accepted(good)
    elif probing:  # a refused probe proves nothing against its items
        return replace(settling.unchanged, requeue=_back(judged, settling.opens_at))
    requeue = _back(spared, settling.opens_at)
    endings: list[Ending] = []
    unclear: list[int] = []
    settled = {item.seq for item, _ in spared} | set(good)
    for item, verdict in judged:
        if item.seq in settled:
            continue
        if verdict.outcome is Outcome.CONFIRM:
            unclear.append(item.seq)
        elif verdict.outcome is Outcome.REJECT:
            endings.append(_dead(item, f"rejected: {verdict.reason}", verdict))
        else:
            part = retried(settling, item, verdict)
            if isinstance(part, Requeue):
                requeue.append(part)
            else:
                endings.append(part)
    settlement = replace(settling.unchanged, delivered=good, requeue=requeue, endings=endings)
    return ask_or_hold(settling, settlement, unclear)


def ask_or_hold(settling: Settling, settlement: Settlement, seqs: Sequence[int]) -> Settlement:
    """Add the items whose fate the answer leaves open: asked about where that is configured, else held for a person."""
    if not seqs or settling.attempted.read_back == "never":
        return replace(settlement, held=seqs)
    # A platform that answered oddly is given a moment before it is asked what it did.
    return replace(settlement, ask=Ask(seqs, settling.backoff_at(1), settling.verdict.reason))


def retried(settling: Settling, item: Item, verdict: ItemVerdict) -> Requeue | Ending:
    """Return an item that was certainly not applied to the queue while it has budget and time, else end it.

    As for whole batches an outage buries nothing: with nothing accepted since its first attempt it waits uncharged
    for the probe.
    """
    if item.expires_at <= settling.now:
        return Ending([item.seq], State.EXPIRED, "expired", maybe_applied=item.maybe_applied, message=verdict.message)
    if item.spent < settling.budget.times:
        due_at = settling.backoff_at(item.spent + 1)
        if verdict.wait_s is not None:
            due_at = max(due_at, settling.now + jittered_s(verdict.wait_s, settling.rng))
        return Requeue([item.seq], due_at, True, verdict.reason, message=verdict.message)
    if settling.outage_since(item.first_sent_at or settling.attempted.started_at, reason=verdict.reason):
        return Requeue([item.seq], settling.opens_at, False, verdict.reason, message=verdict.message)
    return _dead(item, f"retries used up: {verdict.reason}", verdict)


def _nothing_accepted(settling: Settling, judged: Judged) -> None:
    """Count the answer: as a failure when every item asks for a retry, towards a storm when none was throttled."""
    outcomes = {verdict.outcome for _, verdict in judged}
    if outcomes == {Outcome.RETRY}:
        settling.failed(back_off=False)
    elif Outcome.THROTTLED not in outcomes:
        settling.refused(root=settling.batch.root)


def _throttle(settling: Settling, throttled: Judged) -> Judged:
    """Stop the platform for throttled items and return them; those that always draw it alone are treated as retries."""
    suspicion = settling.gate.suspicion
    spared = [(item, verdict) for item, verdict in throttled if not suspicion.convicted([item.seq])]
    if spared:
        seqs = [item.seq for item, _ in spared]
        suspicion.throttled(seqs, first_after_stop=settling.attempted.first_after_stop)
        waits = [verdict.wait_s for _, verdict in spared if verdict.wait_s is not None]
        settling.throttled(wait_s=max(waits, default=settling.verdict.wait_s), reason=spared[0][1].reason)
    return spared


def _back(judged: Judged, due_at: float) -> list[Requeue]:
    """Return items to their places, uncharged, by what was said of them."""
    by_answer: dict[tuple[str, str], list[int]] = {}
    for item, verdict in judged:
        by_answer.setdefault((verdict.reason, verdict.message), []).append(item.seq)
    return [Requeue(seqs, due_at, False, reason, message=message) for (reason, message), seqs in by_answer.items()]


def _dead(item: Item, reason: str, verdict: ItemVerdict) -> Ending:
    return Ending([item.seq], State.DEAD, reason, item.maybe_applied, verdict.message, verdict.code)
