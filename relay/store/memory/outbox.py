"""Batches of the memory store: claiming, re-sending, settling.

A claim looks for work first and for a slot second, so that a platform with nothing to send never stands in line at a
shared quota.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from relay.core.ids import encode_id
from relay.core.model import Batch, ClaimRequest, Item, Lane, State, WaitUntil, Weight
from relay.core.settlement import Settlement
from relay.policy.batching import Packer, lane_order, packing_order
from relay.policy.objective import not_before
from relay.store.memory.records import Attempt, Frozen, KeptAttempts
from relay.store.memory.rows import Heads, Row, Shelf
from relay.store.rotation import Waiting, rotate
from relay.store.slots import Slots
from relay.store.weighing import Chosen, ItemWeight, choose, weigh, weigh_again

_ALONE = Weight()


class Batches:
    """Frozen batches over a shelf and the slots, and the attempts recorded of them."""

    def __init__(self, shelf: Shelf, slots: Slots, *, tag: int) -> None:
        self.kept = KeptAttempts()
        self._shelf = shelf
        self._slots = slots
        self._tag = tag
        self._number = 0
        self._attempt_id = 0
        self._frozen: dict[int, Frozen] = {}
        self._of: dict[str, dict[int, Frozen]] = {}
        self._served: dict[str, str] = {}  # the group served last

    def in_flight(self, row: Row) -> bool:
        """Say whether a row is in a batch under way."""
        batch = self._frozen.get(row.frozen)
        return batch is not None and bool(batch.attempt_id)

    def claim(self, request: ClaimRequest, now: float) -> Batch | WaitUntil:
        """Take a slot and a frozen or a fresh batch, or say until when to wait."""
        if request.group is not None:
            return self._claim(request, request.group, now)
        groups = self._groups(request.platform, now)
        if all(waiting.group == "" for waiting in groups):
            self._served.pop(request.platform, None)
            return self._claim(replace(request, group=""), "", now)
        last = self._served.get(request.platform, "")
        groups.sort(key=lambda waiting: (waiting.group <= last, waiting.group))
        claimed = rotate(
            request, now, groups=groups, slots=self._slots, claim=lambda own: self._claim(own, own.group or "", now)
        )
        if isinstance(claimed, Batch) and self._slots.group_turn_is_over(request.platform, claimed.group):
            self._served[request.platform] = claimed.group
        return claimed

    def reserve(self, platform: str, now: float) -> Batch | WaitUntil:
        """Take a slot for a request without callbacks."""
        wait = self._slots.ready(platform, "", now)
        return wait if wait is not None else self._send(self._freeze(platform, "", [], now, ask=True), now)

    def _groups(self, platform: str, now: float) -> list[Waiting]:
        """Return the groups of a platform that have something."""
        heads = self._shelf.groups(platform, now)
        resends: dict[str, float] = {}
        for batch in self._of.get(platform, {}).values():
            if not batch.attempt_id and batch.expires_at > now:
                resends[batch.group] = min(batch.due_at, resends.get(batch.group, math.inf))
        return [
            Waiting(group, heads.get(group, math.inf), resends.get(group, math.inf)) for group in {*heads, *resends}
        ]

    def _claim(self, request: ClaimRequest, group: str, now: float) -> Batch | WaitUntil:
        """Claim for one group.

        The first lane of the turn with something due decides; frozen batches count as ``RETRY`` and go before loose
        retries. They gain nothing by waiting, so one that is due goes where a fresh batch would wait for the pace;
        and beside one, a lane whose turn it is goes as it stands, so that neither keeps the other out. A probe takes
        fresh work first: the same batch again would only show again that it fails.
        """
        order = lane_order(request.turn)
        heads = self._shelf.heads(request.platform, group)
        due = packing_order([lane for lane in order if heads.next_at(lane, now) <= now], probe=request.probe)
        resend, resend_at = self._resend(request.platform, group, now)
        if not due and resend is None:
            return self._nothing_due(heads, resend_at, now)
        wait = self._slots.ready(request.platform, group, now)
        if wait is not None:
            return wait
        retry_leads = not due or (not request.probe and order.index(Lane.RETRY) <= order.index(due[0]))
        if resend is not None and retry_leads:
            return self._again(resend, request, now)
        hasty = request.probe or (resend is not None and order[0] in due)
        fresh = self._pack(request, group, heads, due, now, hasty=hasty)
        if isinstance(fresh, Frozen):
            weight = weigh(request, self._weights(fresh.seqs)) if request.platform in self._slots.weighing else _ALONE
            return self._send(fresh, now, probe=request.probe, weight=weight)
        if resend is not None:
            return self._again(resend, request, now)
        if fresh is None:
            return self._nothing_due(heads, resend_at, now)
        return WaitUntil(min(fresh.at, resend_at), fresh.reason, fresh.missing)

    def _again(self, batch: Frozen, request: ClaimRequest, now: float) -> Batch | WaitUntil:
        """Send a frozen batch as it is, or wait for room for it."""
        weight = _ALONE
        if request.platform in self._slots.weighing and not batch.confirm:
            found = weigh_again(self._slots, request, self._weights(batch.seqs), now)
            if isinstance(found, WaitUntil):
                return found
            weight = found
        return self._send(batch, now, probe=request.probe, weight=weight)

    def _weights(self, seqs: Sequence[int]) -> list[ItemWeight]:
        rows = (self._shelf.rows[seq] for seq in seqs)
        return [ItemWeight(row.bytes, row.points) for row in rows]

    def _resend(self, platform: str, group: str, now: float) -> tuple[Frozen | None, float]:
        """Return the frozen batch to send next (parts of a split first) when one is due, and when the first is."""
        waiting = [
            batch
            for batch in self._of.get(platform, {}).values()
            if batch.group == group and not batch.attempt_id and batch.expires_at > now
        ]
        due = [batch for batch in waiting if batch.due_at <= now]
        best = min(due, key=lambda batch: (not batch.part, batch.due_at, batch.number), default=None)
        return best, min((batch.due_at for batch in waiting), default=math.inf)

    @staticmethod
    def _nothing_due(heads: Heads, resend_at: float, now: float) -> WaitUntil:
        at = min(resend_at, heads.first_at(now))
        return WaitUntil(at, "idle" if at == math.inf else "retry")

    def _pack(
        self, request: ClaimRequest, group: str, heads: Heads, lanes: Iterable[Lane], now: float, *, hasty: bool
    ) -> Frozen | WaitUntil | None:
        """Freeze a fresh batch; or return all to their places and say until when to gather, None without any."""
        packer = Packer(request)
        taken: list[tuple[Row, Lane]] = []
        for lane in lanes:
            while not packer.full:
                row = heads.pop_due(lane, now)
                if row is None:
                    break
                if packer.offer(row.bytes):
                    taken.append((row, lane))
                else:
                    heads.push(row, lane)
        if not taken:
            return None
        if not packer.full and not hasty:
            pace_at = self._slots.partial_at(request.platform, group, now)
            linger_at = min(row.due_at for row, _ in taken) + request.linger_s
            at = max(pace_at, linger_at)
            if at > now:
                for row, lane in taken:
                    heads.push(row, lane)
                return WaitUntil(at, "linger" if linger_at > pace_at else "pace", packer.missing)
        seqs = [row.seq for row, _ in taken]
        if request.platform in self._slots.weighing:
            chosen = choose(self._slots, request, self._weights(seqs), now)
            count = chosen.taken if isinstance(chosen, Chosen) else 0
            for row, lane in taken[count:]:
                heads.push(row, lane)
            if isinstance(chosen, WaitUntil):
                return chosen
            seqs = seqs[:count]
        return self._freeze(request.platform, group, seqs, now)

    def _freeze(
        self, platform: str, group: str, seqs: Sequence[int], now: float, root: int | None = None, *, ask: bool = False
    ) -> Frozen:
        """Bind rows into a new batch; with ``root`` it is a part of that one, with ``ask`` a read-back."""
        self._number = number = max(self._number + 1, int(now * 1e6))
        batch = Frozen(
            number=number,
            id="b" + encode_id(number, self._tag),
            platform=platform,
            group=group,
            seqs=list(seqs),
            created_at=now,
            root=number if root is None else root,
            due_at=now,
            expires_at=math.inf if ask else max(self._shelf.rows[seq].expires_at for seq in seqs),
            part=root is not None,
            confirm=ask,
        )
        self._frozen[number] = batch
        self._of.setdefault(platform, {})[number] = batch
        for seq in seqs:
            row = self._shelf.rows[seq]
            row.batch_id = batch.id
            self._shelf.freeze(row, number)
        return batch

    def _send(self, batch: Frozen, now: float, *, probe: bool = False, weight: Weight = _ALONE) -> Batch:
        """Record one more attempt of a batch and take its slot."""
        self._attempt_id = attempt_id = self._attempt_id + 1
        batch.attempt += 1
        batch.attempt_id = attempt_id
        sent = Batch(
            number=batch.number,
            id=batch.id,
            attempt=batch.attempt,
            attempt_id=attempt_id,
            platform=batch.platform,
            group=batch.group,
            items=[self._item(self._shelf.rows[seq], attempt_id, now) for seq in batch.seqs],
            created_at=batch.created_at,
            root=batch.root,
            probe=probe,
            confirm=batch.confirm and bool(batch.seqs),
            replayed=all(self._shelf.rows[seq].lane is Lane.REPLAY for seq in batch.seqs),
        )
        self._slots.take(sent.platform, sent.group, attempt_id, now, sent.purpose, weight)
        self.kept.attempts[attempt_id] = Attempt(
            attempt_id, sent.id, sent.attempt, sent.platform, sent.group, now, sent.purpose, len(batch.seqs), weight
        )
        return sent

    @staticmethod
    def _item(row: Row, attempt_id: int, now: float) -> Item:
        """Return a row as it goes out, and count the attempt."""
        assert row.payload is not None
        item = Item(
            seq=row.seq,
            id=row.id,
            payload=row.payload,
            key=row.key,
            event=row.event,
            content_type=row.content_type,
            accepted_at=row.accepted_at,
            expires_at=row.expires_at,
            attempts=row.attempts,
            spent=row.spent,
            first_sent_at=row.first_sent_at,
            maybe_applied=row.maybe_applied,
            not_before=not_before(
                row.lane,
                accepted_at=row.accepted_at,
                expires_at=row.expires_at,
                expires_s=row.expires_s,
            ),
        )
        row.attempts += 1
        row.first_sent_at = row.first_sent_at or now
        row.attempt_ids.append(attempt_id)
        return item

    def settle(self, settlement: Settlement, now: float, *, blocks: bool) -> bool:
        """Carry out what an answer decided; return False when that was done before.

        Raises ``ValueError``, changing nothing, when the parts do not name each item of the batch exactly once.
        """
        attempt = self.kept.attempts.get(settlement.attempt_id)
        if attempt is None or attempt.result is not None:
            return False
        batch = self._frozen[settlement.batch]
        settlement.check(batch.seqs, tag=self._tag)
        attempt.result = settlement.result
        self._slots.release(
            settlement.attempt_id,
            settlement.result.ended_at,
            settlement.result.duration_s,
            settlement.result.wire_bytes,
        )
        batch.attempt_id = 0
        if not batch.seqs:
            self.kept.let_go(settlement.attempt_id)
        if settlement.result.ambiguous:
            for seq in batch.seqs:
                self._shelf.rows[seq].maybe_applied = True
        if settlement.resend is None:
            self._drop(batch)
        self._end(settlement, now, blocks=blocks)
        self._return(settlement, batch, now)
        return True

    def expire(self, number: int, now: float) -> int:
        """End a batch that waits for its re-send with all its items over their time; leave any other as it is.

        Returns how many callbacks ended.
        """
        batch = self._frozen[number]
        if batch.attempt_id or batch.expires_at > now:
            return 0
        self._drop(batch)
        for seq in batch.seqs:
            self._shelf.finish(self._shelf.rows[seq], State.EXPIRED, "expired", now)
        return len(batch.seqs)

    def bring_forward(self, platform: str, now: float) -> int:
        """Make the batches due that wait for their re-send; return how many callbacks lie in them."""
        brought = 0
        for batch in self._of.get(platform, {}).values():
            if not batch.attempt_id and batch.due_at > now and batch.expires_at > now:
                batch.due_at = now
                brought += len(batch.seqs)
        if brought:
            self._shelf.freed[platform] = self._shelf.freed.get(platform, 0) + brought
        return brought

    def give_up(self, number: int, meant: set[int]) -> list[int]:
        """End a batch that waits for its re-send when all its items are meant; return these, none when it goes on.

        A read-back goes on: its answer says what became of its item.
        """
        batch = self._frozen[number]
        if batch.attempt_id or batch.confirm or not meant.issuperset(batch.seqs):
            return []
        self._drop(batch)
        return batch.seqs

    def _drop(self, batch: Frozen) -> None:
        del self._frozen[batch.number]
        del self._of[batch.platform][batch.number]

    def _end(self, settlement: Settlement, now: float, *, blocks: bool) -> None:
        """Carry out the parts that end items."""
        rows, result = self._shelf.rows, settlement.result
        for seq in settlement.delivered:
            rows[seq].maybe_applied = False
            self._shelf.finish(rows[seq], State.DELIVERED, result.reason, now)
        for ending in settlement.endings:
            for seq in ending.seqs:
                rows[seq].maybe_applied |= ending.maybe_applied
                dead = ending.state is State.DEAD
                rows[seq].message = ending.message or rows[seq].message
                rows[seq].code = ending.code
                self._shelf.finish(rows[seq], ending.state, ending.reason, now, blocks=blocks and dead)

    def _return(self, settlement: Settlement, batch: Frozen, now: float) -> None:
        """Carry out the parts whose items stay pending."""
        shelf, rows = self._shelf, self._shelf.rows
        for again in settlement.requeue:
            for seq in again.seqs:
                row = rows[seq]
                row.spent += again.charge
                row.maybe_applied |= again.maybe_applied
                row.reason = again.reason
                row.message = again.message or row.message
                # In its old lane a callback that was out once would go behind the whole backlog; among retries it
                # keeps their share.
                shelf.requeue(row, again.due_at, Lane.RETRY if row.lane is Lane.NORMAL else row.lane)
        for seq in settlement.held:
            rows[seq].reason = settlement.result.reason
            rows[seq].code = settlement.result.code
            shelf.hold(rows[seq])
        if settlement.resend is not None:
            batch.due_at = settlement.resend.due_at
            for seq in batch.seqs:
                rows[seq].spent += settlement.resend.charge
                rows[seq].reason = settlement.resend.reason
                shelf.watch_expiry(rows[seq])
        for part in settlement.split:
            self._freeze(batch.platform, batch.group, part, now, root=batch.root)
            for seq in part:
                shelf.watch_expiry(rows[seq])
            shelf.freed[batch.platform] = shelf.freed.get(batch.platform, 0) + len(part)
        if settlement.ask is not None:
            for seq in settlement.ask.seqs:
                rows[seq].reason = settlement.ask.reason
                asked = self._freeze(batch.platform, batch.group, [seq], now, root=batch.root, ask=True)
                asked.due_at = settlement.ask.due_at
            shelf.freed[batch.platform] = shelf.freed.get(batch.platform, 0) + len(settlement.ask.seqs)
        shelf.freed.setdefault(batch.platform, 0)
