"""The memory store's shelf: rows, the lines of their keys, and the heads that may be claimed.

Whatever changes a row goes through ``Shelf``, which keeps three things true: only the first live row of a key is a
head, and only while nothing of the key is frozen, held or blocking; a head has the best lane of its key; the totals
move with the states.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.core.model import Lane, State

_ALL_LANES = tuple(Lane)  # the simulator runs millions of rows: iterating the enum itself is ten times as slow
_LANES = len(_ALL_LANES)
_ENDS = tuple(state.word for state in State if state is not State.PENDING)


@dataclass(slots=True)
class Row:
    """One callback. ``place`` orders it in its key and among equally old work; coalescing hands it on."""

    seq: int
    id: str
    platform: str
    payload: bytes | None
    key: str | None
    event: str | None
    lane: Lane
    priority: Lane
    group: str
    content_type: str | None
    traceparent: str | None
    idempotency_key: str | None
    bytes: int
    accepted_at: float
    expires_s: float
    expires_at: float
    due_at: float
    place: int
    state: State = State.PENDING
    ended_at: float = 0.0
    attempts: int = 0
    spent: int = 0
    first_sent_at: float = 0.0
    frozen: int = 0  # number of the batch it is frozen in
    batch_id: str | None = None  # its latest batch
    held: bool = False
    dropped: bool = False  # dead, and a person deleted its payload
    forgotten: bool = False  # what it held of a person was destroyed; its key still orders
    maybe_applied: bool = False
    reason: str = ""
    message: str = ""
    code: str | None = None  # that the rule met
    superseded_by: str | None = None
    post: str | None = None  # the idempotency key of the routed post it came with
    reference: str | None = None
    points: int = 1
    gathered_since: float = 0.0  # since when newer ones of its key take each other's place; 0: they do not wait
    attempt_ids: list[int] = field(default_factory=list)
    stamp: int = 0  # which of its entries in a heap of heads is valid


class _KeyLine:
    __slots__ = ("blockers", "busy", "delivered", "head", "held", "lane", "lanes", "live", "rows")

    def __init__(self, *, held: bool) -> None:
        self.held = held  # by an operator
        self.live: list[tuple[int, int]] = []  # (place, seq) of pending rows, in order
        self.lanes = [0] * _LANES  # how many of them are in each lane
        self.busy = 0  # frozen or held
        self.blockers: set[int] = set()  # dead rows that keep the key waiting
        self.delivered = 0  # newest delivered sequence number
        self.rows = 0  # rows kept, in any state
        self.head: Row | None = None
        self.lane = Lane.LOW  # the head's, while there is one


class Heads:
    """The claimable rows of one platform and group: a heap per lane, oldest due time first."""

    __slots__ = ("_lanes", "_rows")

    def __init__(self, rows: dict[int, Row]) -> None:
        self._rows = rows
        self._lanes: list[list[tuple[float, int, int, int]]] = [[] for _ in range(_LANES)]

    def push(self, row: Row, lane: Lane) -> None:
        """Make ``row`` claimable from its due time on, replacing its earlier entry."""
        row.stamp += 1
        heapq.heappush(self._lanes[lane], (row.due_at, row.place, row.seq, row.stamp))

    def next_at(self, lane: Lane, now: float) -> float:
        """Return when the lane's first row is due; infinite when there is none.

        Rows over their time are dropped: they are left to ``expire`` and never sent again.
        """
        heap = self._lanes[lane]
        while heap:
            due_at, _, seq, stamp = heap[0]
            row = self._rows.get(seq)
            if row is not None and row.stamp == stamp and row.expires_at > now:
                return due_at
            heapq.heappop(heap)
        return math.inf

    def first_at(self, now: float) -> float:
        """Return when the first row of all lanes is due; infinite when there is none."""
        return min(self.next_at(lane, now) for lane in Lane)

    def pop_due(self, lane: Lane, now: float) -> Row | None:
        """Take out the lane's next row if it is due; one that is not used must be pushed again."""
        if self.next_at(lane, now) > now:
            return None
        return self._rows[heapq.heappop(self._lanes[lane])[2]]


class Shelf:
    """All rows and what follows from their states."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.totals: dict[str, dict[str, int]] = {}
        self.before_change: Callable[[], None] = lambda: None  # called before each change of a total
        self.ended_or_held: Callable[[Row], None] = lambda _: None  # called with each row that is so from now on
        self.used_bytes = 0
        self.freed: dict[str, int] = {}  # callbacks made claimable per platform, until drained
        self.expiries: list[tuple[float, int]] = []
        # Ended rows in the order they ended, for pruning: those kept short (delivered, superseded), those kept long.
        self.ended: tuple[deque[tuple[float, int]], deque[tuple[float, int]]] = (deque(), deque())
        self.held_keys: dict[tuple[str, str], str] = {}  # held back by an operator, and why
        self._keys: dict[tuple[str, str], _KeyLine] = {}
        self._heads: dict[str, dict[str, Heads]] = {}

    def heads(self, platform: str, group: str) -> Heads:
        """Return the claimable rows of a platform's group."""
        groups = self._heads.setdefault(platform, {})
        heads = groups.get(group)
        if heads is None:
            heads = groups[group] = Heads(self.rows)
        return heads

    def groups(self, platform: str, now: float) -> dict[str, float]:
        """Return when the first row of each group with claimable rows is due; forgets groups without any."""
        groups = self._heads.get(platform, {})
        first = {group: heads.first_at(now) for group, heads in groups.items()}
        for group, at in first.items():
            if at == math.inf:
                del groups[group]
        return {group: at for group, at in first.items() if at < math.inf}

    def count(self, platform: str, word: str, change: int) -> None:
        """Move a stored total."""
        self.before_change()
        totals = self.totals.get(platform)
        if totals is None:
            totals = self.totals[platform] = {"accepted": 0, **dict.fromkeys(_ENDS, 0)}
        totals[word] += change

    def add(self, row: Row) -> None:
        """Put an accepted row in."""
        self.rows[row.seq] = row
        self.used_bytes += row.bytes
        self.count(row.platform, "accepted", 1)
        if row.key is not None:
            self._line(row).rows += 1
        self._enter(row)
        self.watch_expiry(row)

    def watch_expiry(self, row: Row) -> None:
        """Let ``expiries`` show when the row's time is over."""
        heapq.heappush(self.expiries, (row.expires_at, row.seq))

    def behind(self, row: Row) -> list[Row]:
        """Return the live rows of ``row``'s key that are neither frozen nor held, in order."""
        found = [] if row.key is None else self.pending_of(row.platform, row.key)
        return [other for other in found if not other.frozen and not other.held]

    def look_again(self, platform: str, key: str) -> None:
        """Find out anew whether a key has a head: it is held back from now on, or no longer."""
        line = self._keys.get((platform, key))
        if line is not None:
            line.held = (platform, key) in self.held_keys
            self._promote(platform, line)

    def pending_of(self, platform: str, key: str) -> list[Row]:
        """Return the pending rows of a key, in order."""
        line = self._keys.get((platform, key))
        return [] if line is None else [self.rows[seq] for _, seq in line.live]

    def overtaken(self, row: Row) -> bool:
        """Say whether a newer callback of the row's key was delivered."""
        line = self._keys.get((row.platform, row.key)) if row.key is not None else None
        return line is not None and line.delivered > row.seq

    def waiting_since(self, row: Row) -> float | None:
        """Return since when a pending row could have been sent, whatever has become of its attempts.

        It was accepted then, or retried by a person. None while it is held, or was always behind another of its key.
        """
        behind = row.key is not None and not row.first_sent_at and not row.frozen and self._line(row).head is not row
        return None if row.held or behind else min(row.due_at, row.expires_at - row.expires_s)

    def freeze(self, row: Row, number: int) -> None:
        """Bind a row to a batch, or to a part of the one it was in."""
        if not row.frozen:
            row.stamp += 1
            self._busy(row, 1)
        row.frozen = number

    def hold(self, row: Row) -> None:
        """Keep a frozen row, and its key, for a person."""
        row.frozen = 0
        row.held = True
        self.ended_or_held(row)

    def requeue(self, row: Row, due_at: float, lane: Lane) -> None:
        """Return a frozen or held row to its place."""
        self._leave(row)
        row.due_at = due_at
        row.lane = lane
        self._enter(row)
        self.watch_expiry(row)

    def bring_forward(self, platform: str, now: float) -> int:
        """Make what was put back due, in its place and lane; return how many rows that is."""
        brought = 0
        for row in self.rows.values():
            waits = row.platform == platform and row.state is State.PENDING and not row.frozen and not row.held
            if waits and row.first_sent_at and row.due_at > now and row.expires_at > now:
                row.due_at = now
                brought += 1
                line = None if row.key is None else self._line(row)
                if line is None or line.head is row:
                    self._offer(row, row.lane if line is None else line.lane)
        return brought

    def finish(self, row: Row, state: State, reason: str, now: float, *, blocks: bool = False) -> None:
        """End a pending row. With ``blocks`` its key waits until it is revived, dropped or pruned."""
        self._leave(row)
        row.state = state
        row.reason = reason
        if state is State.DELIVERED:
            row.message = ""
            row.code = None
        row.ended_at = now
        self.ended_or_held(row)
        self.count(row.platform, state.word, 1)
        self.ended[state in (State.DEAD, State.EXPIRED)].append((now, row.seq))
        if row.key is not None:
            line = self._line(row)
            if state is State.DELIVERED:
                line.delivered = max(line.delivered, row.seq)
            if blocks:
                line.blockers.add(row.seq)
            self._promote(row.platform, line)

    def revive(self, row: Row, now: float) -> None:
        """Make a dead or expired row pending again, in its old place."""
        self.count(row.platform, row.state.word, -1)
        row.state = State.PENDING
        row.reason = row.message = ""
        row.code = None
        row.ended_at = 0.0
        row.due_at = now
        row.expires_at = now + row.expires_s
        self._unblock(row)
        self._enter(row)
        self.watch_expiry(row)

    def supersede(self, row: Row, by: str, reason: str, now: float) -> None:
        """Let the callback with the id ``by`` stand for a dead row from now on."""
        self.count(row.platform, row.state.word, -1)
        self.count(row.platform, State.SUPERSEDED.word, 1)
        row.state = State.SUPERSEDED
        row.reason = reason
        row.superseded_by = by
        row.ended_at = now
        self.ended_or_held(row)
        self.ended[0].append((now, row.seq))

    def unblock(self, row: Row) -> None:
        """Let a key go on past a dead row."""
        self._unblock(row)
        if row.key is not None:
            self._promote(row.platform, self._line(row))

    def unblock_platform(self, platform: str) -> None:
        """Let every key of a platform go on past its dead rows."""
        for (owner, _), line in self._keys.items():
            if owner == platform and line.blockers:
                line.blockers.clear()
                self._promote(platform, line)

    def discard_payload(self, row: Row) -> None:
        """Delete an ended row's payload."""
        self.used_bytes -= row.bytes
        row.payload = None
        row.bytes = 0
        row.dropped = row.state is State.DEAD

    def remove(self, row: Row) -> None:
        """Delete an ended row."""
        self.unblock(row)
        del self.rows[row.seq]
        self.used_bytes -= row.bytes
        if row.key is not None:
            line = self._line(row)
            line.rows -= 1
            if not line.rows:
                del self._keys[row.platform, row.key]

    def drain_freed(self) -> dict[str, int]:
        """Return, once, how many callbacks became claimable per platform."""
        freed, self.freed = self.freed, {}
        return freed

    def _line(self, row: Row) -> _KeyLine:
        assert row.key is not None
        line = self._keys.get((row.platform, row.key))
        if line is None:
            place = (row.platform, row.key)
            line = self._keys[place] = _KeyLine(held=place in self.held_keys)
        return line

    def _busy(self, row: Row, change: int) -> None:
        if row.key is not None:
            line = self._line(row)
            line.busy += change
            line.head = None

    def _enter(self, row: Row) -> None:
        if row.key is None:
            self._offer(row, row.lane)
            return
        line = self._line(row)
        insort(line.live, (row.place, row.seq))
        line.lanes[row.lane] += 1
        self._promote(row.platform, line)

    def _leave(self, row: Row) -> None:
        row.stamp += 1
        if row.key is not None:
            line = self._line(row)
            if row.frozen or row.held:
                self._busy(row, -1)
            del line.live[bisect_left(line.live, (row.place, row.seq))]
            line.lanes[row.lane] -= 1
            if line.head is row:
                line.head = None
        row.frozen = 0
        row.held = False

    def _unblock(self, row: Row) -> None:
        if row.key is not None:
            self._line(row).blockers.discard(row.seq)

    def _promote(self, platform: str, line: _KeyLine) -> None:
        """Make the first live row of a key its head, in the best lane of the key."""
        head = None
        if line.live and not line.busy and not line.blockers and not line.held:
            head = self.rows[line.live[0][1]]
        lane = next((lane for lane in _ALL_LANES if line.lanes[lane]), Lane.LOW)
        if head is line.head and lane is line.lane:
            return
        if line.head is not None and line.head is not head:
            line.head.stamp += 1
        line.head = head
        line.lane = lane
        if head is not None:
            self._offer(head, lane)

    def _offer(self, row: Row, lane: Lane) -> None:
        self.heads(row.platform, row.group).push(row, lane)
        self.freed[row.platform] = self.freed.get(row.platform, 0) + 1
