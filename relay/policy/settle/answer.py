"""Turns a verdict into a settlement: the table "Answers" of docs/state-machine.md, row by row.

``decide`` is the only place that says what happens to items after an answer. It reads and moves the platform's gate
(plain data) and returns what the store has to commit.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from relay.core.model import Item, Outcome, State
from relay.core.settlement import Ask, Ending, Requeue, Settlement
from relay.policy.gate.platform import Gate
from relay.policy.settle.attempted import Attempted, Budget, ReadBack, Settling
from relay.policy.settle.per_item import ask_or_hold, settle_items
from relay.policy.settle.read_back import settle_read_back

__all__ = ["Attempted", "Budget", "ReadBack", "decide"]


_NOT_THIS_CODING = 415  # RFC 9110 section 15.5.16
# Who cannot be reached or lets nobody in does so for every group, and so does the Retry-After that comes with it.
_OF_THE_PLATFORM = (Outcome.DOWN, Outcome.AUTH)


def decide(attempted: Attempted, *, budget: Budget, gate: Gate, now: float, rng: random.Random) -> Settlement:
    """Return what the answer changes, and move ``gate``. Each item of the batch is named in exactly one part."""
    scope = "platform" if attempted.verdict.outcome in _OF_THE_PLATFORM else attempted.verdict.scope
    settlement = _decide(Settling(attempted, budget, gate.of(attempted.batch, scope=scope), now, rng))
    if attempted.verdict.outcome is not Outcome.PLAIN:
        gate.coding.settled(
            attempted.batch.number,
            accepted=bool(settlement.delivered) and not attempted.asked,
            again=settlement.resend is not None,
        )
    return settlement


def _decide(settling: Settling) -> Settlement:
    verdict, gate = settling.verdict, settling.gate
    if verdict.outcome is Outcome.UNSENT:
        return _unsent(settling)
    if settling.attempted.asked:
        return settle_read_back(settling)
    if verdict.items:
        return settle_items(settling)
    match verdict.outcome:
        case Outcome.OK | Outcome.DUPLICATE:
            settling.accepted()
            gate.suspicion.accepted(item.seq for item in settling.items)
            return replace(settling.unchanged, delivered=_seqs(settling.items))
        case Outcome.THROTTLED:
            return _throttled(settling)
        case Outcome.AUTH if settling.attempted.renewed:
            gate.answered()
            settling.obey()
            return replace(settling.unchanged, resend=settling.resend(settling.opens_at))
        case Outcome.DOWN | Outcome.AUTH:
            settling.failed(back_off=True)
            settling.obey()
            return _requeued(settling)
        case Outcome.RETRY:
            settling.failed(back_off=False)
            settling.obey()
            return _retried(settling)
        case Outcome.CRASH:  # our own failure says nothing about the platform, but must not repeat for ever
            return _retried(settling)
        case Outcome.PLAIN:
            gate.answered()
            gate.coding.refused(settling.batch.number, plainly=settling.attempted.result.status == _NOT_THIS_CODING)
            return replace(settling.unchanged, resend=settling.resend(settling.now))
        case Outcome.SPLIT | Outcome.REJECT:
            return _refused(settling)
        case Outcome.CONFIRM:
            return _unrecognised(settling)


def _throttled(settling: Settling) -> Settlement:
    """Stop and send again when the stop ends; narrow down to the item that draws every throttle, if there is one."""
    verdict, suspicion = settling.verdict, settling.gate.suspicion
    seqs = _seqs(settling.items)
    if suspicion.convicted(seqs):
        settling.gate.answered()
        return _retried(settling)
    suspicion.throttled(seqs, first_after_stop=settling.attempted.first_after_stop)
    settling.throttled(wait_s=verdict.wait_s, reason=verdict.reason)
    if len(seqs) > 1 and not verdict.ambiguous and suspicion.suspects(seqs):
        return replace(settling.unchanged, split=_halves(seqs))
    if verdict.ambiguous or suspicion.test:
        return replace(settling.unchanged, resend=settling.resend(settling.opens_at))
    return _requeued(settling)


def _retried(settling: Settling) -> Settlement:
    """Send the same batch again while one of its items has budget and time; else end them.

    1. A read-back is to say what may have been applied: the batch waits for it, nothing is charged, nothing ends.
    2. An item has budget and time: the whole batch goes again and each item is charged. With ``times: 3`` and
       ``backoff: 2s..10m`` that is after 1 to 2 s, 2 to 4 s, then 4 to 8 s.
    3. The platform has accepted nothing since the first attempt: an outage. The batch waits for the probe, uncharged.
    4. Otherwise each item ends: dead, or expired where its time is over.
    """
    items, verdict, now = settling.items, settling.verdict, settling.now
    spent = max(item.spent for item in items)
    if settling.attempted.read_back == "ambiguous" and verdict.ambiguous:
        due_at = max(settling.backoff_at(spent + 1), settling.opens_at)
        return replace(settling.unchanged, resend=settling.resend(due_at))
    alive = [item for item in items if item.expires_at > now]
    if any(item.spent < settling.budget.times for item in alive):
        due_at = settling.backoff_at(spent + 1)
        if verdict.wait_s is not None:
            due_at = max(due_at, settling.gate.stopped_until)
        return replace(settling.unchanged, resend=settling.resend(due_at, charge=True))
    first_sent_at = min((item.first_sent_at or settling.attempted.started_at) for item in items)
    if alive and settling.outage_since(first_sent_at, reason=verdict.reason):
        return replace(settling.unchanged, resend=settling.resend(settling.opens_at))
    endings = []
    for applied in (False, True):
        mine = [item for item in items if (verdict.ambiguous or item.maybe_applied) is applied]
        dead = [item.seq for item in mine if item.expires_at > now]
        late = [item.seq for item in mine if item.expires_at <= now]
        if dead:
            endings.append(Ending(dead, State.DEAD, f"retries used up: {verdict.reason}", applied, code=verdict.code))
        if late:
            endings.append(Ending(late, State.EXPIRED, "expired", maybe_applied=applied))
    return replace(settling.unchanged, endings=endings)


def _refused(settling: Settling) -> Settlement:
    """Halve a refused batch until the callback that is refused stands alone; only that one dies.

    Of 100 items with one bad one this takes about 14 more requests: 50 and 50, the refused 50 again, and so on.
    """
    batch, verdict = settling.batch, settling.verdict
    alone = len(batch.items) == 1
    if settling.refused(root=batch.root, parts=0 if alone else 2):
        return _put_back(settling)
    if not alone:
        return replace(settling.unchanged, split=_halves(_seqs(batch.items)))
    maybe_applied = verdict.ambiguous or batch.items[0].maybe_applied
    ending = Ending(_seqs(batch.items), State.DEAD, f"rejected: {verdict.reason}", maybe_applied, code=verdict.code)
    return replace(settling.unchanged, endings=[ending])


def _unrecognised(settling: Settling) -> Settlement:
    """Nobody knows what the answer means: ask back where that is configured, else hold the items for a person."""
    if settling.refused(root=settling.batch.number) and settling.attempted.read_back == "never":
        return _put_back(settling)
    return ask_or_hold(settling, settling.unchanged, _seqs(settling.items))


def _unsent(settling: Settling) -> Settlement:
    """Settle a batch of which no request was made: its slot went by, the platform and the others lose nothing by it.

    Each item's verdict says why: ``reject`` cannot be put into a request at all, ``confirm`` must be asked about on
    its own, ``split`` are too many for one body, ``retry`` only had the wrong company. Without verdicts on items the
    relay itself lacked something: the same batch goes again in a moment, and the platform is left alone until then.
    """
    attempted, now = settling.attempted, settling.now
    if not settling.verdict.items:
        settling.gate.rest(now, wait_s=settling.verdict.wait_s or 0.0, reason=settling.verdict.reason)
        return replace(settling.unchanged, resend=settling.resend(settling.opens_at))
    endings: list[Ending] = []
    of: dict[Outcome, list[int]] = {}
    for item, verdict in zip(settling.items, settling.verdict.items, strict=True):
        if verdict.outcome is Outcome.REJECT:
            ending = Ending([item.seq], State.DEAD, verdict.reason, maybe_applied=item.maybe_applied)
            endings.append(ending)
        else:
            of.setdefault(verdict.outcome, []).append(item.seq)
    reason = settling.verdict.reason
    again, unsure = of.get(Outcome.RETRY), of.get(Outcome.CONFIRM)
    asks = attempted.read_back != "never" and not attempted.asked  # a read-back that cannot be built asks nobody
    return replace(
        settling.unchanged,
        endings=endings,
        requeue=[Requeue(again, now, False, reason)] if again else (),
        ask=Ask(unsure, now, reason) if unsure and asks else None,
        held=unsure if unsure and not asks else (),
        split=_halves(of[Outcome.SPLIT]) if Outcome.SPLIT in of else (),
    )


def _put_back(settling: Settling) -> Settlement:
    """A refused probe proves nothing against its items; what may have been applied keeps its id."""
    if settling.verdict.ambiguous:
        return replace(settling.unchanged, resend=settling.resend(settling.opens_at))
    return _requeued(settling)


def _requeued(settling: Settling) -> Settlement:
    """Put every item back in the queue, uncharged, due when the gate opens; they may be regrouped."""
    seqs, reason = _seqs(settling.items), settling.verdict.reason
    return replace(settling.unchanged, requeue=[Requeue(seqs, settling.opens_at, False, reason)])


def _seqs(items: Sequence[Item]) -> list[int]:
    return [item.seq for item in items]


def _halves(seqs: Sequence[int]) -> list[Sequence[int]]:
    middle = (len(seqs) + 1) // 2
    return [seqs[:middle], seqs[middle:]]
