"""Claiming: choose work, take a slot, freeze the batch and record its attempt, all in the group's commit.

It looks for work first and for a slot second, so that a platform with nothing to send never stands in line at a shared
quota. Choosing reads one covering index; nothing here depends on how much is queued.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, chain, islice
from typing import Any

import apsw
import msgspec

from relay.core.model import Batch, ClaimRequest, Item, Lane, WaitUntil, Weight
from relay.policy.batching import Packer, lane_order, packing_order
from relay.store.rotation import rotate
from relay.store.slots import Slots
from relay.store.sqlite.file.checksums import as_damaged
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.limits.weights import record_weight, weights_of
from relay.store.sqlite.write.apart.unopened import hold, take_out
from relay.store.sqlite.write.groups import waiting_groups
from relay.store.sqlite.write.matches import Matches
from relay.store.weighing import choose, weigh_again

_LANE_DUE = """(SELECT group_concat(seq || ',' || bytes) FROM (
  SELECT seq, bytes FROM callback INDEXED BY callback_ready
  WHERE platform = ?1 AND grp = ?2 AND prio = {lane} AND head = 1 AND due_at <= ?3 AND expires_at > ?3
  ORDER BY due_at, seq LIMIT ?4))"""
# One statement for all lanes and the frozen batches: one crossing into SQLite however many lanes have work.
_DUE = f"""
SELECT {", ".join(_LANE_DUE.format(lane=int(lane)) for lane in Lane)},
  (SELECT number FROM batch INDEXED BY batch_due WHERE platform = ?1 AND grp = ?2 AND state = 0 AND due_at <= ?3
   AND expires_at > ?3 ORDER BY root = number, due_at, number LIMIT 1),
  (SELECT due_at FROM batch INDEXED BY batch_due WHERE platform = ?1 AND grp = ?2 AND state = 0 AND expires_at > ?3
   ORDER BY due_at LIMIT 1),
  EXISTS (SELECT 1 FROM callback INDEXED BY callback_ready
          WHERE platform = ?1 AND head = 1 AND grp > '' AND expires_at > ?3)
  OR EXISTS (SELECT 1 FROM batch INDEXED BY batch_due
             WHERE platform = ?1 AND state = 0 AND grp > '' AND expires_at > ?3)
"""  # noqa: S608 - lanes are numbers of an enum
_LANE_NEXT = """(SELECT min(due_at) FROM callback INDEXED BY callback_ready
  WHERE platform = ?1 AND grp = ?2 AND prio = {lane} AND head = 1 AND due_at > ?3)"""
_NEXT = f"SELECT {', '.join(_LANE_NEXT.format(lane=int(lane)) for lane in Lane)}"
_OLDEST = "SELECT min(due_at) FROM callback WHERE seq IN (SELECT value FROM carray(?1))"
# All items of a batch in one row: their facts as JSON, their bodies end to end, since when the one that waits longest
# could have been sent, and whether a person sent all of them again (lane REPLAY). A row each would cost a
# crossing each.
_ITEMS = """
SELECT json_group_array(json_array(octet_length(p.body), c.key_text, c.event, c.content_type, c.accepted_at,
    c.expires_at, c.attempts, c.spent, c.first_sent_at,
    json(iif(c.maybe_applied, 'true', 'false')),
    iif(c.lane <> 3 AND c.expires_at - c.expires_s > c.accepted_at + 0.001, c.expires_at - c.expires_s, 0.0),
    p.sealed)),
  CAST(group_concat(p.body, '') AS BLOB), min(min(c.due_at, c.expires_at - c.expires_s)), min(c.lane = 3)
FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value CROSS JOIN payload AS p ON p.seq = c.seq
"""
# Where what comes of a request will be counted: on a damaged page it could not be, so nothing is sent.
_COUNTED = "SELECT accepted FROM ledger WHERE platform = ?"
_FREEZE = """
UPDATE callback SET head = 0, batch = ?2, attempts = attempts + 1,
  first_sent_at = CASE WHEN first_sent_at = 0.0 THEN ?3 ELSE first_sent_at END
WHERE seq IN (SELECT value FROM carray(?1))
"""
_RESERVED = """
INSERT INTO batch
  (number, platform, grp, state, due_at, attempts, created_at, root, items, expires_at, members, confirm)
VALUES (?1, ?2, '', 2, ?3, 1, ?3, ?1, 0, ?3, x'', 0)
"""
_Facts = tuple[int, str | None, str | None, str | None, float, float, int, int, float, bool, float, int]
_decode_facts = msgspec.json.Decoder(list[_Facts]).decode
_decode_due = msgspec.json.Decoder(list[int]).decode


_QUESTION = Weight()


class Claims:
    """Claims for all platforms; on the writer thread. Holds the counters that number batches and attempts."""

    def __init__(
        self,
        *,
        names: Names,
        seals: Seals,
        slots: Slots,
        matches: Matches,
        unopened: Callable[[str, Sequence[str]], object],
        ids: PublicIds,
    ) -> None:
        """``unopened`` is told after the commit of a platform's callbacks that do not open."""
        self._names = names
        self._seals = seals
        self.matches = matches
        self._unopened = unopened
        self._slots = slots
        self._ids = ids
        self.last_number = 0
        self.last_attempt = 0
        self.under_way: set[int] = set()  # attempts of this process that are committed and not settled
        self._served: dict[int, str] = {}  # of platforms whose groups take turns: the group served last

    def claim(self, transaction: Transaction, request: ClaimRequest) -> Batch | WaitUntil:
        """Take a slot and a frozen or fresh batch, or say until when to wait."""
        platform = self._names.known(request.platform)
        if platform is None:
            return WaitUntil(math.inf, "idle")
        if request.group is not None or platform not in self._served:
            where = (platform, request.group or "", transaction.now)
            *due, others = transaction.execute(_DUE, (*where, request.max_items)).get
            if request.group is not None or not others:
                return self._claim(transaction, replace(request, group=request.group or ""), where, due)
            self._served[platform] = ""
        groups = waiting_groups(transaction, platform, self._served[platform])
        first = list(islice(groups, 2))
        if all(waiting.group == "" for waiting in first):
            del self._served[platform]
            return self._claim_turn(transaction, platform, replace(request, group=""))
        claimed = rotate(
            request,
            transaction.now,
            groups=chain(first, groups),
            slots=self._slots,
            claim=lambda own: self._claim_turn(transaction, platform, own),
        )
        if isinstance(claimed, Batch) and self._slots.group_turn_is_over(request.platform, claimed.group):
            self._served[platform] = claimed.group
        return claimed

    def reserve(self, transaction: Transaction, name: str) -> Batch | WaitUntil:
        """Take a slot for a request without callbacks. Its batch is done from the start: a crash sends it to nobody."""
        platform, now = self._names.known(name), transaction.now
        if platform is None:
            return WaitUntil(math.inf, "idle")
        wait = self._slots.ready(name, "", now)
        if wait is not None:
            return wait
        number = self.number_batch(now)
        transaction.execute(_RESERVED, (number, platform, now))
        batch = Batch(
            number=number,
            id=self._ids.batch(transaction.execute, number),
            attempt=1,
            attempt_id=self._next_attempt(),
            platform=name,
            group="",
            items=[],
            created_at=now,
            root=number,
            probe=False,
        )
        return self._record(transaction, platform, batch)

    def _claim_turn(self, transaction: Transaction, platform: int, request: ClaimRequest) -> Batch | WaitUntil:
        """Claim for the one group that is named."""
        where = (platform, request.group or "", transaction.now)
        *due, _ = transaction.execute(_DUE, (*where, request.max_items)).get
        return self._claim(transaction, request, where, due)

    def _claim(
        self, transaction: Transaction, request: ClaimRequest, where: tuple[int, str, float], found: Sequence[Any]
    ) -> Batch | WaitUntil:
        """Claim for one group, of what was found due there.

        The first lane of the turn with something due decides; frozen batches count as ``RETRY`` and go before loose
        retries. They gain nothing by waiting, so one that is due goes where a fresh batch would wait for the pace;
        and beside one, a lane whose turn it is goes as it stands, so that neither keeps the other out. A probe takes
        fresh work first: the same batch again would only show again that it fails.
        """
        *lanes, resend, resend_at = found
        order = lane_order(request.turn)
        due = packing_order([lane for lane in order if lanes[lane]], probe=request.probe)
        if not due and resend is None:
            return self._nothing_due(transaction, where, resend_at)
        wait = self._slots.ready(request.platform, request.group, transaction.now)
        if wait is not None:
            return wait
        retry_leads = not due or (not request.probe and order.index(Lane.RETRY) <= order.index(due[0]))
        if resend is not None and retry_leads:
            return self._resend(transaction, resend, request)
        packer = Packer(request)
        seqs = _pack(packer, [lanes[lane] for lane in due])
        hasty = packer.full or request.probe or (resend is not None and order[0] in due)
        wait = None if hasty else self._gather(transaction, request, packer, seqs)
        if wait is None:
            return self._fresh(transaction, where[0], seqs, request)
        if resend is not None:
            return self._resend(transaction, resend, request)
        return wait if resend_at is None else WaitUntil(min(wait.at, resend_at), wait.reason, wait.missing)

    @staticmethod
    def _nothing_due(transaction: Transaction, where: tuple[int, str, float], resend_at: float | None) -> WaitUntil:
        times = [*transaction.execute(_NEXT, where).get, resend_at]
        at = min((time for time in times if time is not None), default=math.inf)
        return WaitUntil(at, "idle" if at == math.inf else "retry")

    def _gather(
        self, transaction: Transaction, request: ClaimRequest, packer: Packer, seqs: list[int]
    ) -> WaitUntil | None:
        """Say until when a partial batch waits for more, or None."""
        now = transaction.now
        pace_at = self._slots.partial_at(request.platform, request.group, now)
        linger_at = 0.0
        if request.linger_s > 0:
            linger_at = transaction.execute(_OLDEST, (numbers(seqs),)).get + request.linger_s
        at = max(pace_at, linger_at)
        if at <= now:
            return None
        return WaitUntil(at, "linger" if linger_at > pace_at else "pace", packer.missing)

    def number_batch(self, now: float) -> int:
        """Return the next batch number: microseconds, made unique and increasing."""
        self.last_number = max(self.last_number + 1, int(now * 1e6))
        return self.last_number

    def _set_aside(self, transaction: Transaction, platform: str, seqs: Sequence[int]) -> WaitUntil:
        """Tell of callbacks that do not open and are held now; the claim is to be made again, without them."""
        ids = self._ids.callbacks(transaction.execute, seqs)
        transaction.on_commit.append(lambda: self._unopened(platform, ids))
        return WaitUntil(transaction.now, "retry")

    def _fresh(
        self, transaction: Transaction, platform: int, seqs: list[int], request: ClaimRequest
    ) -> Batch | WaitUntil:
        now = transaction.now
        weight = Weight()
        if request.platform in self._slots.weighing:
            chosen = choose(self._slots, request, weights_of(transaction, seqs), now)
            if isinstance(chosen, WaitUntil):
                return chosen
            seqs, weight = seqs[: chosen.taken], chosen.weight
        number = self.number_batch(now)
        members = array("q", seqs)
        items, waiting_since, replayed = self._items(transaction, platform, members)
        if broken := _unopened(items):
            hold(transaction, broken)
            return self._set_aside(transaction, request.platform, broken)
        expires_at = max(item.expires_at for item in items)
        facts = (number, platform, request.group, now, now, number, len(seqs), expires_at, members.tobytes())
        transaction.execute("INSERT INTO batch VALUES (?, ?, ?, 1, ?, 1, ?, ?, ?, ?, ?, 0, ?)", (*facts, waiting_since))
        batch = Batch(
            number=number,
            id=self._ids.batch(transaction.execute, number),
            attempt=1,
            attempt_id=self._next_attempt(),
            platform=request.platform,
            group=request.group or "",
            items=items,
            created_at=now,
            root=number,
            probe=request.probe,
            replayed=replayed,
        )
        return self._record(transaction, platform, batch, weight)

    def _resend(self, transaction: Transaction, number: int, request: ClaimRequest) -> Batch | WaitUntil:
        platform, attempts, created_at, root, packed, confirm = transaction.execute(
            "SELECT platform, attempts, created_at, root, members, confirm FROM batch WHERE number = ?", (number,)
        ).get
        weight = Weight()
        if request.platform in self._slots.weighing and not confirm:
            found = weigh_again(self._slots, request, weights_of(transaction, array("q", packed)), transaction.now)
            if isinstance(found, WaitUntil):
                return found
            weight = found
        items, _, replayed = self._items(transaction, platform, array("q", packed))
        if broken := _unopened(items):
            take_out(transaction, number, broken, number=self.number_batch)
            self.matches.release(transaction, number)
            return self._set_aside(transaction, request.platform, broken)
        transaction.execute("UPDATE batch SET state = 1, attempts = attempts + 1 WHERE number = ?", (number,))
        batch = Batch(
            number=number,
            id=self._ids.batch(transaction.execute, number),
            attempt=attempts + 1,
            attempt_id=self._next_attempt(),
            platform=request.platform,
            group=request.group or "",
            items=items,
            created_at=created_at,
            root=root,
            probe=request.probe,
            confirm=bool(confirm),
            replayed=replayed,
        )
        return self._record(transaction, platform, batch, weight)

    def _next_attempt(self) -> int:
        self.last_attempt += 1
        return self.last_attempt

    def _record(self, transaction: Transaction, platform: int, batch: Batch, weight: Weight = _QUESTION) -> Batch:
        """Record the attempt, take its slot, and return the batch as it goes out; ``platform`` is its number."""
        now, attempt_id = transaction.now, batch.attempt_id
        transaction.execute(_COUNTED, (platform,)).fetchall()
        if batch.items:
            transaction.execute(_FREEZE, (numbers([item.seq for item in batch.items]), batch.number, now))
        transaction.execute(
            "INSERT INTO attempt (id, platform, grp, batch, n, started_at, purpose) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (attempt_id, platform, batch.group, batch.number, batch.attempt, now, batch.purpose),
        )
        if weight.items:
            record_weight(transaction, attempt_id, weight)
        self._slots.take(batch.platform, batch.group, attempt_id, now, batch.purpose, weight)
        transaction.on_rollback.append(lambda: self._slots.forget(attempt_id))
        transaction.on_commit.append(lambda: self.under_way.add(attempt_id))
        transaction.rows += len(batch.items)
        return batch

    def _items(self, transaction: Transaction, platform: int, members: Sequence[int]) -> tuple[list[Item], float, bool]:
        """Return a batch's items; the payload of one that does not open is None."""
        try:
            facts, joined, waiting_since, replayed = transaction.execute(_ITEMS, (numbers(members),)).get
        except apsw.Error as error:
            raise as_damaged(error, members) or error from error
        sizes, *columns, sealed = zip(*_decode_facts(facts), strict=True)
        ends = list(accumulate(sizes))
        bodies: Sequence[bytes] = [joined[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        if any(sealed) or self._seals.only_sealed:
            bodies, keys = self._seals.opened(platform, members, bodies, columns[0], sealed)
            columns[0] = tuple(keys)
        items = map(
            Item._make, zip(members, self._ids.callbacks(transaction.execute, members), bodies, *columns, strict=True)
        )
        return list(items), waiting_since, bool(replayed)


def _unopened(items: Sequence[Item]) -> list[int]:
    return [item.seq for item in items if item.payload is None]


def _pack(packer: Packer, lanes: Sequence[str]) -> list[int]:
    """Fill the packer from the lanes' due rows, given as ``seq,bytes,seq,bytes``; return the seqs it took."""
    offer: Callable[[int], bool] = packer.offer
    seqs: list[int] = []
    for lane in lanes:
        found = _decode_due(f"[{lane}]")
        if packer.offer_all(found[1::2]):  # mostly: a quarter of what asking one by one costs
            seqs += found[::2]
            if packer.full:
                break
            continue
        for seq, size in zip(found[::2], found[1::2], strict=True):
            if not offer(size):
                return seqs
            seqs.append(seq)
        if packer.full:
            break
    return seqs
