"""Batches out: what to claim is decided here, as in every backend; two scripts read and freeze.

``peek.lua`` shows what is due. The slot is taken before the claim is sent: its answer may be lost. ``claim.lua`` knows
the attempt by its id and answers it again.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from relay.core.clock import Clock
from relay.core.errors import Fenced, StoreAway
from relay.core.ids import encode_id
from relay.core.model import Batch, ClaimRequest, Item, Lane, Purpose, Settlement, WaitUntil
from relay.core.raw import Kept
from relay.policy.batching import Packer, lane_order, packing_order
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.server.fields import pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink, ServerRefused
from relay.store.redis.server.tags import PlatformTags
from relay.store.rotation import Waiting, rotate

_NOT_OWNED: Final = WaitUntil(math.inf, "owner")
_LOST_TRIES: Final = 3
_FIRST_GROUPS: Final = 8


@dataclass(slots=True)
class _Due:
    """What one group has, as ``peek.lua`` shows it."""

    lanes: list[list[tuple[int, int, float]]]  # seq, bytes, due of each
    resend: int
    resend_at: float
    next_at: float
    others: bool


@dataclass(slots=True)
class _Plan(Batch):
    """What a claim will freeze: ``number`` 0 for fresh items, else the frozen batch that goes again."""

    seqs: Sequence[int] = ()
    question: bool = False  # carries no callback


class _Unseen(Exception):
    """A group must be peeked at first; with None, more groups must be read."""

    def __init__(self, group: str | None) -> None:
        super().__init__(group)
        self.group = group


class _WaitingGroups:
    """The groups of a platform that have something, read in growing parts: mostly one of the first goes."""

    def __init__(self, served: str) -> None:
        self.found: list[Waiting] = []
        self.complete = False
        self.after = served or "-"  # "-": from the group "" on
        self.step = _FIRST_GROUPS
        self._served = served
        self._wrapped = not served

    def take(self, part: Sequence[Waiting], last: str | None) -> None:
        """Take the next part; ``last`` is the last group looked at, None behind the end."""
        if self._wrapped and self._served:
            part = [waiting for waiting in part if waiting.group <= self._served]
            self.complete = last is not None and last >= self._served
        self.found += part
        self.step *= 8
        if last is not None:
            self.after = last or "-"
        if last is None or last == "":
            self.complete = self.complete or self._wrapped
            self._wrapped, self.after = True, "-"

    def draw(self) -> Iterator[Waiting]:
        """Yield what was read; raises ``_Unseen`` where more must be read."""
        yield from self.found
        if not self.complete:
            raise _Unseen(None)


class RedisOutbox:
    """Claims and settles for the platforms this host owns."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        owned: OwnedPlatforms,
        *,
        changed: Callable[[str, int], None],
        released: Callable[[], None],
    ) -> None:
        """``changed(platform, count)`` is told what became claimable; ``released`` that operations may go on."""
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._owned = owned
        self._changed = changed
        self._released = released
        self._claiming: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._served: dict[str, str] = {}
        self._lost: dict[str, _Plan] = {}  # claims whose answer did not come: asked for again before anything else
        self._groups: dict[int, tuple[str, float]] = {}  # by attempt under way: group and start

    async def claim(self, request: ClaimRequest) -> Batch | WaitUntil:
        """Take a slot and a batch, or say until when to wait."""
        platform = request.platform
        if not self._owned.owns(platform):
            return _NOT_OWNED
        async with self._claiming[platform]:
            while True:
                plan = self._lost.pop(platform, None) or await self._plan(request)
                if not isinstance(plan, _Plan):
                    self._wake()
                    return plan
                batch = await self._carry_out(plan)
                if batch is not None:
                    self._wake()
                    return batch

    async def reserve(self, platform: str) -> Batch | WaitUntil:
        """Take a slot for a request without callbacks and record its attempt."""
        if not self._owned.owns(platform):
            return _NOT_OWNED
        wait = self._owned.slots.ready(platform, "", self._clock.now())
        if wait is not None:
            return wait
        attempt_id, now = self._owned.next_number(), self._clock.now()
        self._owned.slots.take(platform, "", attempt_id, now, Purpose.READ_BACK)
        plan = _Plan(attempt_id, "", 0, attempt_id, platform, "", [], now, attempt_id, question=True)
        batch = await self._carry_out(plan)
        assert batch is not None
        self._wake()
        return batch

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
        waiting = _WaitingGroups(self._served[request.platform])
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
            except _Unseen as unseen:
                if unseen.group is None:
                    await self._more_groups(request.platform, waiting)
                else:
                    seen[unseen.group] = await self._peek(request, unseen.group)
                continue
            if isinstance(plan, _Plan):
                self._served[request.platform] = plan.group
                return plan
            assert isinstance(plan, WaitUntil)
            return plan

    def _decide(self, request: ClaimRequest, seen: "dict[str, _Due]") -> "_Plan | WaitUntil":
        """Decide for one group of which is known what is due; as ``relay.store.sqlite.write.claim``."""
        group = request.group or ""
        due_of = seen.get(group)
        if due_of is None:
            raise _Unseen(group)
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
            return self._planned(request, due_of.resend, ())
        packer = Packer(request)
        taken = [row for lane in due for row in _taken(packer, due_of.lanes[lane])]
        hasty = packer.full or request.probe or (bool(due_of.resend) and order[0] in due)
        if not hasty:
            pace_at = slots.partial_at(request.platform, group, now)
            linger_at = min(at for _, _, at in taken) + request.linger_s if request.linger_s > 0 else 0.0
            at = max(pace_at, linger_at)
            if at > now:
                if due_of.resend:
                    return self._planned(request, due_of.resend, ())
                reason = "linger" if linger_at > pace_at else "pace"
                return WaitUntil(min(at, due_of.resend_at), reason, packer.missing)
        return self._planned(request, 0, [seq for seq, _, _ in taken])

    def _planned(self, request: ClaimRequest, number: int, seqs: Sequence[int]) -> _Plan:
        """Take the slot now, before the claim is on its way."""
        attempt_id = self._owned.next_number()
        now = self._clock.now()
        self._owned.slots.take(request.platform, request.group or "", attempt_id, now)
        plan = _Plan(number, "", 0, attempt_id, request.platform, request.group or "", [], now, 0, seqs=seqs)
        plan.probe = request.probe
        return plan

    # Asking the server

    async def _peek(self, request: ClaimRequest, group: str) -> _Due:
        call = self._owned.call("peek", request.platform)
        now = call.args[0]
        call = ServerCall(call.script, call.keys, (now, group, request.max_items))
        *lanes, resend, resend_at, later, others = await self._link.one(call)
        return _Due(
            lanes=[_due_rows(lane) for lane in lanes],
            resend=resend,
            resend_at=float(resend_at) if resend_at else math.inf,
            next_at=min((float(at) for at in later if at), default=math.inf),
            others=bool(others),
        )

    async def _more_groups(self, platform: str, waiting: "_WaitingGroups") -> None:
        """Read the next groups that have something, round to the one served last."""
        while not waiting.complete:
            before = len(waiting.found)
            call = self._owned.call("groups", platform)
            args = (call.args[0], waiting.after, waiting.step)
            answer, last = await self._link.one(ServerCall(call.script, call.keys, args))
            found = [Waiting(name.decode(), float(head), float(again)) for name, head, again in answer]
            waiting.take(found, None if last is None else last.decode())
            if len(waiting.found) > before:
                return

    async def _carry_out(self, plan: _Plan) -> Batch | None:
        """Freeze what was planned and record its attempt; None when it changed meanwhile."""
        platform, attempt_id = plan.platform, plan.attempt_id
        number = plan.number or attempt_id
        kind = 2 if plan.question else int(not plan.number)
        facts = (attempt_id, number, plan.group, kind, pack(list(plan.seqs)), int(plan.probe))
        try:
            claimed = await self._known(lambda: self._owned.call("claim", platform, *facts))
        except Fenced:
            self._owned.slots.forget(attempt_id)
            raise
        except BaseException:
            self._lost[platform] = plan  # it may be recorded; its slot stays taken
            raise
        if claimed is None:
            self._owned.slots.forget(attempt_id)
            return None
        attempt, created, root, confirm, replayed, items = unpack(claimed)
        seqs = [item[0] for item in items]
        command = ("HMGET", self._keys.of(platform, "b"), *seqs)
        bodies = await self._again(lambda: ServerCall(None, (), command)) if seqs else []
        tag = self._tags.known(platform)
        self._groups[attempt_id] = plan.group, plan.created_at
        batch = Batch(
            number=number,
            id="b" + encode_id(number, tag),
            attempt=attempt,
            attempt_id=attempt_id,
            platform=platform,
            group=plan.group,
            items=[_item(item, body, tag) for item, body in zip(items, bodies, strict=True)],
            created_at=float(created),
            root=root,
            probe=plan.probe,
            confirm=bool(confirm),
            replayed=bool(replayed),
        )
        self._owned.slots.name(attempt_id, batch.purpose)
        return batch

    async def _known(self, call: Callable[[], ServerCall]) -> Any:
        """Run a claim until its answer is known; the script answers the same attempt the same again."""
        return await self._again(call, durable=True)

    async def _again(self, call: Callable[[], ServerCall], *, durable: bool = False) -> Any:
        for left in reversed(range(_LOST_TRIES)):
            try:
                return await self._link.one(call(), durable=durable)
            except StoreAway:
                if not left:
                    raise
        raise AssertionError("unreachable")

    # Settling

    async def settle(self, settlement: Settlement) -> None:
        """Commit what an attempt came to; a second call for it does nothing."""
        result, platform = settlement.result, settlement.platform
        rule = self._owned.rules.platforms.get(platform)
        numbers = [self._owned.next_number() for _ in settlement.split]
        ask = settlement.ask
        numbers += [self._owned.next_number() for _ in (ask.seqs if ask is not None else ())]
        resend = settlement.resend
        parts = [
            result.ended_at,
            result.duration_s,
            result.outcome.value,
            result.status or False,
            result.reason,
            result.excerpt,
            int(result.ambiguous),
            False if result.code is None else result.code,
            int(result.outcome.accepted),
            list(settlement.delivered),
            [
                [list(each.seqs), each.due_at, int(each.charge), each.reason, int(each.maybe_applied), each.message]
                for each in settlement.requeue
            ],
            [
                [
                    list(each.seqs),
                    int(each.state),
                    each.reason,
                    int(each.maybe_applied),
                    each.message,
                    False if each.code is None else each.code,
                ]
                for each in settlement.endings
            ],
            list(settlement.held),
            False if ask is None else [list(ask.seqs), ask.due_at, ask.reason],
            False if resend is None else [resend.due_at, int(resend.charge), resend.reason],
            [list(part) for part in settlement.split],
            int(rule is not None and rule.block_on_dead),
            numbers,
            False if settlement.gate is None else packed_gate(settlement.gate),
        ]
        call = self._owned.call("settle", platform, settlement.attempt_id, settlement.batch, pack(parts))
        try:
            answer = await self._link.one(call, durable=True)
        except Fenced:
            self._owned.slots.forget(settlement.attempt_id)
            raise
        except ServerRefused as error:
            if str(error).startswith("PARTS"):
                raise ValueError(f"settlement of batch {settlement.batch} names not each of its items once") from error
            raise
        group, started_at = self._groups.pop(settlement.attempt_id, ("", result.ended_at))
        self._owned.settled(platform, group, settlement.attempt_id, started_at, result.ended_at, result.duration_s)
        if answer is None:
            return
        freed, released = answer
        self._changed(platform, freed)
        self._wake()
        if released:
            self._released()


def packed_gate(gate: Kept) -> list[Any]:
    """Return a gate as the scripts keep it: itself, and each stop of a group that changed (False: over)."""
    main = _json({name: value for name, value in gate.items() if name != "groups"})
    stops = gate.get("groups", {}).items()
    return [main, [[group, False if stop is None else _json(stop)] for group, stop in stops]]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _due_rows(found: Sequence[bytes]) -> list[tuple[int, int, float]]:
    rows: list[tuple[int, int, float]] = []
    for member, due in zip(found[::2], found[1::2], strict=True):
        seq, _, size = member.partition(b":")
        rows.append((int(seq), int(size), float(due)))
    return rows


def _taken(packer: Packer, rows: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    taken: list[tuple[int, int, float]] = []
    for row in rows:
        if packer.full or not packer.offer(row[1]):
            break
        taken.append(row)
    return taken


def _item(facts: Sequence[Any], body: bytes, tag: int) -> Item:
    seq, key, event, content_type, accepted_at, expires_at, attempts, spent, first, maybe = facts
    return Item(
        seq=seq,
        id=encode_id(seq, tag),
        payload=body,
        key=None if key is False else key,
        event=None if event is False else event,
        content_type=None if content_type is False else content_type,
        accepted_at=float(accepted_at),
        expires_at=float(expires_at),
        attempts=attempts,
        spent=spent,
        first_sent_at=float(first),
        maybe_applied=bool(maybe),
    )
