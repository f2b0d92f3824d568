"""Batches out: what to claim is decided here, as in every backend; two scripts read and freeze.

``peek.lua`` shows what is due. The slot is taken before the claim is sent: its answer may be lost. ``claim.lua`` knows
the attempt by its id and answers it again.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.core.clock import Clock
from relay.core.errors import Fenced, StoreAway
from relay.core.model import Batch, ClaimRequest, Item, Lane, Purpose, WaitUntil, Weight
from relay.policy.batching import Packer, lane_order, packing_order
from relay.policy.objective import not_before
from relay.store.redis.lost_claims import LostClaims
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.batch_ids import BatchIds
from relay.store.redis.server.fields import pack, read_row, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink, ServerRefused
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.write.groups import Unseen, WaitingGroups
from relay.store.redis.write.queue_entries import DueRow, due_rows, first_rows, head_columns, rows_that_fit
from relay.store.redis.write.settlement import OpenAttempt
from relay.store.redis.write.weights import frozen_weights, weight_of_head
from relay.store.rotation import Waiting, rotate
from relay.store.weighing import ItemWeight, choose, weigh_again

_ALONE: Final = Weight()
_NOT_OWNED: Final = WaitUntil(math.inf, "owner")
_LOST_TRIES: Final = 3


@dataclass(slots=True)
class _Due:
    """What one group has, as ``peek.lua`` shows it."""

    lanes: list[list[DueRow]]
    resend: int
    resend_at: float
    next_at: float
    others: bool
    moved: bytes
    frozen: Sequence[ItemWeight] = ()  # what the frozen batch weighs, where that counts


@dataclass(slots=True)
class _Plan(Batch):
    """What a claim will freeze: ``number`` 0 for fresh items, else the frozen batch that goes again."""

    heads: Sequence[tuple[int, list[bytes]]] = ()  # by lane, in the order of packing
    question: bool = False  # carries no callback
    since: float = 0.0  # when the oldest of the heads was due
    moved: bytes = b""  # what ``peek.lua`` said of heads that moved
    weight: Weight = _ALONE


SetAside = Callable[..., Awaitable[None]]


async def _nothing_is_sealed(batch: Batch, broken: Sequence[int], *, fresh: bool) -> None:
    raise AssertionError("set by who settles")


class RedisOutbox:
    """Claims for the platforms this host owns."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        owned: OwnedPlatforms,
        *,
        seals: RedisSeals,
        changed: Callable[[str, int], None],
    ) -> None:
        """``changed(platform, count)`` is told what became claimable.

        ``set_aside`` is set by who settles: it holds the callbacks of a claimed batch that do not open.
        """
        self.set_aside: SetAside = _nothing_is_sealed
        self._seals = seals
        self._link = link
        self._keys = keys
        self._tags = tags
        self._batch_ids = BatchIds(link, keys, tags)
        self._clock = clock
        self._owned = owned
        self._changed = changed
        self._claiming: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._served: dict[str, str] = {}
        self._lost = LostClaims[_Plan](owned.slots)
        self.open: dict[int, OpenAttempt] = {}  # by attempt under way

    async def claim(self, request: ClaimRequest) -> Batch | WaitUntil:
        """Take a slot and a batch, or say until when to wait."""
        platform = request.platform
        if not self._owned.owns(platform):
            return _NOT_OWNED
        async with self._claiming[platform]:
            while True:
                plan = self._lost.next(platform, question=False, now=self._clock.now()) or await self._plan(request)
                if not isinstance(plan, _Plan):
                    self._wake()
                    return plan
                batch = await self._carry_out(plan)
                if batch is None:
                    continue
                broken = [item.seq for item in batch.items if item.payload is None] if self._seals.on else []
                if broken:
                    await self.set_aside(batch, broken, fresh=not plan.number)
                    return WaitUntil(self._clock.now(), "retry")
                self._wake()
                return batch

    async def reserve(self, platform: str) -> Batch | WaitUntil:
        """Take a slot for a request without callbacks and record its attempt."""
        if not self._owned.owns(platform):
            return _NOT_OWNED
        batch: Batch | None = None
        while batch is None:
            plan = self._lost.next(platform, question=True, now=self._clock.now()) or self._question(platform)
            if isinstance(plan, WaitUntil):
                return plan
            batch = await self._carry_out(plan)
        self._wake()
        return batch

    def _question(self, platform: str) -> "_Plan | WaitUntil":
        wait = self._owned.slots.ready(platform, "", self._clock.now())
        if wait is not None:
            return wait
        attempt_id, now = self._owned.next_number(), self._clock.now()
        self._owned.slots.take(platform, "", attempt_id, now, Purpose.READ_BACK)
        return _Plan(attempt_id, "", 0, attempt_id, platform, "", [], now, attempt_id, question=True)

    def _wake(self) -> None:
        for platform in self._owned.slots.drain_wakes():
            self._changed(platform, 0)

    # Deciding

    async def _plan(self, request: ClaimRequest) -> "_Plan | WaitUntil":
        seen: dict[str, _Due] = {}
        if request.group is not None or request.platform not in self._served:
            group = request.group or ""
            seen[group] = await self._peek(request, group)
            if request.group is not None or not seen[group].others:
                return self._decide(replace(request, group=group), seen)
            self._served[request.platform] = ""
        waiting = WaitingGroups(self._served[request.platform])
        await self._more_groups(request.platform, waiting)
        if waiting.complete and all(group.group == "" for group in waiting.found):
            del self._served[request.platform]
            seen.setdefault("", await self._peek(request, ""))
            return self._decide(replace(request, group=""), seen)
        while True:
            try:
                plan = rotate(
                    request,
                    self._clock.now(),
                    groups=waiting.draw(),
                    slots=self._owned.slots,
                    claim=lambda own: self._decide(own, seen),
                )
            except Unseen as unseen:
                if unseen.group is None:
                    await self._more_groups(request.platform, waiting)
                else:
                    seen[unseen.group] = await self._peek(request, unseen.group)
                continue
            if isinstance(plan, _Plan):
                if self._owned.slots.group_turn_is_over(request.platform, plan.group):
                    self._served[request.platform] = plan.group
                return plan
            assert isinstance(plan, WaitUntil)
            return plan

    def _decide(self, request: ClaimRequest, seen: "dict[str, _Due]") -> "_Plan | WaitUntil":
        """Decide for one group of which is known what is due; as ``relay.store.sqlite.write.claim``."""
        group = request.group or ""
        due_of = seen.get(group)
        if due_of is None:
            raise Unseen(group)
        now = self._clock.now()
        slots = self._owned.slots
        order = lane_order(request.turn)
        due = packing_order([lane for lane in order if due_of.lanes[lane]], probe=request.probe)
        if not due and not due_of.resend:
            at = min(due_of.next_at, due_of.resend_at)
            return WaitUntil(at, "idle" if at == math.inf else "retry")
        wait = slots.ready(request.platform, group, now)
        if wait is not None:
            return wait
        retry_leads = not due or (not request.probe and order.index(Lane.RETRY) <= order.index(due[0]))
        if due_of.resend and retry_leads:
            return self._planned_again(request, due_of)
        packer = Packer(request)
        packed = [(lane, rows_that_fit(packer, due_of.lanes[lane])) for lane in due]
        hasty = packer.full or request.probe or (bool(due_of.resend) and order[0] in due)
        if not hasty:
            pace_at = slots.partial_at(request.platform, group, now)
            linger_at = (
                min(at for _, rows in packed for _, _, at in rows) + request.linger_s if request.linger_s > 0 else 0.0
            )
            at = max(pace_at, linger_at)
            if at > now:
                if due_of.resend:
                    return self._planned_again(request, due_of)
                reason = "linger" if linger_at > pace_at else "pace"
                return WaitUntil(min(at, due_of.resend_at), reason, packer.missing)
        weight = _ALONE
        if request.platform in slots.weighing:
            chosen = choose(slots, request, [weight_of_head(row[0]) for _, rows in packed for row in rows], now)
            if isinstance(chosen, WaitUntil):
                return chosen
            packed, weight = first_rows(packed, chosen.taken), chosen.weight
        heads = [(int(lane), [row[0] for row in rows]) for lane, rows in packed if rows]
        plan = self._planned(request, 0, heads, weight)
        plan.since = min(at for _, rows in packed for _, _, at in rows)
        plan.moved = due_of.moved
        return plan

    def _planned_again(self, request: ClaimRequest, due_of: _Due) -> "_Plan | WaitUntil":
        """Plan to send a frozen batch again as it is, when there is room for all of it."""
        weight = _ALONE
        if due_of.frozen:
            found = weigh_again(self._owned.slots, request, due_of.frozen, self._clock.now())
            if isinstance(found, WaitUntil):
                return found
            weight = found
        return self._planned(request, due_of.resend, (), weight)

    def _planned(
        self, request: ClaimRequest, number: int, heads: Sequence[tuple[int, list[bytes]]], weight: Weight
    ) -> _Plan:
        """Take the slot now, before the claim is on its way."""
        attempt_id = self._owned.next_number()
        now = self._clock.now()
        self._owned.slots.take(request.platform, request.group or "", attempt_id, now, weight=weight)
        plan = _Plan(number, "", 0, attempt_id, request.platform, request.group or "", [], now, 0, heads=heads)
        plan.probe, plan.weight = request.probe, weight
        return plan

    # Asking the server

    async def _peek(self, request: ClaimRequest, group: str) -> _Due:
        call = self._owned.call("peek", request.platform)
        now = call.args[0]
        asked = call._replace(args=(now, group, request.max_items))
        *lanes, resend, resend_at, later, others, moved = await self._link.one(asked)
        weighs = resend and request.platform in self._owned.slots.weighing
        return _Due(
            lanes=[due_rows(lane) for lane in lanes],
            resend=resend,
            resend_at=float(resend_at) if resend_at else math.inf,
            next_at=min((float(at) for at in later if at), default=math.inf),
            others=bool(others),
            moved=moved,
            frozen=await frozen_weights(self._link, self._keys, request.platform, resend) if weighs else (),
        )

    async def _more_groups(self, platform: str, waiting: "WaitingGroups") -> None:
        """Read the next groups that have something, round to the one served last."""
        while not waiting.complete:
            before = len(waiting.found)
            call = self._owned.call("groups", platform)
            asked = call._replace(args=(call.args[0], waiting.after, waiting.step))
            answer, last = await self._link.one(asked)
            found = [Waiting(name.decode(), float(head), float(again)) for name, head, again in answer]
            waiting.take(found, None if last is None else last.decode())
            if len(waiting.found) > before:
                return

    async def _carry_out(self, plan: _Plan) -> Batch | None:
        """Freeze what was planned and record its attempt; None when it changed meanwhile."""
        platform, attempt_id = plan.platform, plan.attempt_id
        number = plan.number or attempt_id
        kind = 2 if plan.question else int(not plan.number)
        heads = [head_columns(lane, members) for lane, members in plan.heads]
        weighs = (plan.weight.bytes, plan.weight.points if plan.weight.items else "")
        facts = (attempt_id, number, plan.group, kind, pack(heads), plan.moved, repr(plan.since), *weighs)
        planned = [seq for _, _, seqs, _ in heads for seq in seqs]
        write = self._owned.last.place(platform)
        try:
            claimed, *content = await self._again(
                lambda: [self._owned.call("claim", platform, *facts), *self._content(platform, planned)]
            )
            if claimed is None:
                self._owned.slots.forget(attempt_id)
                return None
            attempt, created, root, confirm, seqs = unpack(claimed)
            again = self._owned.call("claim", platform, *facts[:5], "-", *facts[6:], len(seqs))
            self._owned.last.keep(write, (again,))
            if seqs and not planned:
                planned = seqs
                content = await self._again(lambda: self._content(platform, seqs))
            ids = await self._batch_ids.of(platform, [number])
            if not self._owned.slots.holds(attempt_id):
                raise StoreAway("the lease was lost while a batch was claimed")
        except Fenced:
            self._owned.slots.forget(attempt_id)
            raise
        except BaseException as error:  # cancelled too
            if isinstance(error, ServerRefused) and str(error).startswith("GONE"):
                self._owned.slots.forget(attempt_id)  # ended by a take-over and never sent
                return None
            self._lost.keep(plan)  # it may be recorded: its slot stays taken
            raise
        items, replayed = await self._items(platform, seqs, planned, content)
        batch = Batch(
            number=number,
            id=ids[number],
            attempt=attempt,
            attempt_id=attempt_id,
            platform=platform,
            group=plan.group,
            items=items,
            created_at=float(created),
            root=root,
            probe=plan.probe,
            confirm=bool(confirm),
            replayed=replayed,
        )
        weight = plan.weight._replace(items=len(seqs))
        under_way = (platform, batch.purpose, frozenset(seqs), plan.group, plan.created_at)
        self.open[attempt_id] = OpenAttempt(*under_way, weight)
        self._owned.slots.name(attempt_id, batch.purpose)
        return batch

    def _content(self, platform: str, seqs: Sequence[int]) -> list[ServerCall]:
        """Return what reads rows and payloads; a claim changes neither."""
        if not seqs:
            return []
        return [ServerCall(None, (), ("HMGET", self._keys.of(platform, name), *seqs)) for name in ("r", "b")]

    async def _items(
        self, platform: str, seqs: Sequence[int], read: Sequence[int], content: Sequence[Any]
    ) -> tuple[list[Item], bool]:
        """Return a batch's items of the rows and payloads that were read, and whether a person sent all of them again.

        The payload of one that does not open is None.
        """
        if not seqs:
            return [], False
        found, bodies = (dict(zip(read, each, strict=True)) for each in content)
        rows = [read_row(seq, found[seq]) for seq in seqs]
        await self._seals.open_rows(platform, rows)
        payloads = await self._seals.open_bodies(platform, rows, [bodies[seq] for seq in seqs])
        tag = self._tags.known(platform)
        items = [
            Item(
                seq=row.seq,
                id=row.public_id(tag),
                payload=payload,
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
                    Lane(row.lane),
                    accepted_at=row.accepted_at,
                    expires_at=row.expires_at,
                    expires_s=row.expires_s,
                ),
            )
            for row, payload in zip(rows, payloads, strict=True)
        ]
        return items, all(row.lane == Lane.REPLAY for row in rows)

    async def _again(self, calls: Callable[[], list[ServerCall]]) -> list[Any]:
        """Run calls until their answers are known; the claim script answers the same attempt the same again."""
        for left in reversed(range(_LOST_TRIES)):
            try:
                answers = await self._link.run(calls(), durable=True)
            except StoreAway:
                if not left:
                    raise
                continue
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers
        raise AssertionError("unreachable")
