"""Taking callbacks into the memory store: idempotency keys, room, coalescing, and forgetting what ended."""

import hashlib
from collections.abc import Callable, Sequence

from relay.core.errors import IdempotencyConflict, NoTarget, StoreFull
from relay.core.ids import encode_id
from relay.core.model import Accepted, AcceptedPosts, Lane, NewCallback, RoutedPost, State, StoreRules
from relay.store.memory.outbox import Batches
from relay.store.memory.rows import Row, Shelf


def _digest(row: NewCallback | RoutedPost) -> bytes:
    """Return what makes two posts the same: payload, key and event."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (row.payload, (row.key or "").encode(), (row.event or "").encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _size(row: NewCallback) -> int:
    """Return the bytes a callback is counted as: what it takes in a body."""
    return len(row.payload) if row.body_bytes is None else row.body_bytes


class MemoryInbox:
    """Accepts rows and routed posts, all or none; removes rows that ended, with the keys that named them."""

    def __init__(self, shelf: Shelf, batches: Batches, *, rules: Callable[[], StoreRules], tag: int) -> None:
        self._shelf = shelf
        self._batches = batches
        self._rules = rules
        self._tag = tag
        self._seq = 0
        self._posts: dict[tuple[str, str], tuple[bytes, int]] = {}
        # Of routed posts: digest, and the row of each target by its platform.
        self._routed: dict[str, tuple[bytes, dict[str, int]]] = {}

    def accept(self, rows: Sequence[NewCallback], now: float) -> Accepted:
        """Queue ``rows``. Raises ``IdempotencyConflict`` and ``StoreFull``."""
        firsts: dict[int, int] = {}  # index of a repeat -> index of the new row it repeats
        known: dict[int, int] = {}  # index of a repeat -> sequence number of the row it repeats
        posts: dict[tuple[str, str], tuple[bytes, int]] = {}
        for index, new in enumerate(rows):
            if new.idempotency_key is None:
                continue
            post, digest = (new.platform, new.idempotency_key), _digest(new)
            earlier = self._posts.get(post)
            if earlier is not None:
                known[index] = earlier[1]
            else:
                earlier = posts.setdefault(post, (digest, index))
                if earlier[1] != index:
                    firsts[index] = earlier[1]
            if earlier[0] != digest:
                raise IdempotencyConflict(index)
        fresh = [index for index in range(len(rows)) if index not in known and index not in firsts]
        self._make_room(sum(_size(rows[index]) for index in fresh))
        ids: list[str] = []
        seqs: list[int] = []
        for index, new in enumerate(rows):
            if index in known:
                seqs.append(known[index])
            elif index in firsts:
                seqs.append(seqs[firsts[index]])
            else:
                row = self._enqueue(new, now)
                seqs.append(row.seq)
                ids.append(row.id)
                continue
            ids.append(encode_id(seqs[-1], self._tag))
        for post, (digest, index) in posts.items():
            self._posts[post] = (digest, seqs[index])
        return Accepted(ids, frozenset(known) | frozenset(firsts))

    def accept_posts(self, posts: Sequence[RoutedPost], now: float) -> AcceptedPosts:
        """Queue the rows of routed posts. Raises ``IdempotencyConflict``, ``NoTarget`` and ``StoreFull``."""
        digests: dict[str, bytes] = {}
        fresh: set[int] = set()
        for index, post in enumerate(posts):
            if post.idempotency_key is not None:
                digest = _digest(post)
                known = self._routed.get(post.idempotency_key)
                first = known[0] if known is not None else digests.get(post.idempotency_key)
                if first is not None and first != digest:
                    raise IdempotencyConflict(index)
                if first is not None:
                    continue
                digests[post.idempotency_key] = digest
            if not post.rows:
                raise NoTarget(index)
            fresh.add(index)
        self._make_room(sum(len(row.payload) for index in fresh for row in posts[index].rows))
        placed: list[dict[str, int]] = []
        for index, post in enumerate(posts):
            if index not in fresh:
                assert post.idempotency_key is not None
                placed.append(self._routed[post.idempotency_key][1])
                continue
            rows = [row._replace(dead_reason=post.dead_reason or row.dead_reason) for row in post.rows]
            placed.append({row.platform: self._enqueue(row, now, post.idempotency_key).seq for row in rows})
            if post.idempotency_key is not None:
                self._routed[post.idempotency_key] = (digests[post.idempotency_key], placed[-1])
        ids = [{platform: encode_id(seq, self._tag) for platform, seq in seqs.items()} for seqs in placed]
        return AcceptedPosts(ids, frozenset(range(len(posts))) - fresh)

    def enqueue(self, row: NewCallback, now: float) -> None:
        """Queue a row whatever room there is."""
        self._enqueue(row, now)

    def enqueue_all(self, rows: Sequence[NewCallback], now: float) -> str:
        """Queue rows that were counted under another platform before; return the first one's id."""
        self._make_room(sum(len(row.payload) for row in rows))
        queued = [self._enqueue(row, now) for row in rows]
        return queued[0].id

    def _make_room(self, wanted: int) -> None:
        most = self._rules().max_size_bytes
        if most is None:
            return
        short = self._shelf.ended[0]
        while self._shelf.used_bytes + wanted > most and short:
            self.remove_ended(*short.popleft())
        if self._shelf.used_bytes + wanted > most:
            raise StoreFull(
                f"the store holds {self._shelf.used_bytes} of {most} bytes in callbacks that must be kept; "
                "raise store.max_size, or drop dead letters"
            )

    def _enqueue(self, new: NewCallback, now: float, post: str | None = None) -> Row:
        """Put a row in line. ``post`` is the idempotency key of its routed post."""
        seq = self._seq = max(self._seq + 1, int(now * 1e6))
        row = Row(
            seq=seq,
            id=encode_id(seq, self._tag),
            platform=new.platform,
            payload=new.payload,
            key=new.key,
            event=new.event,
            lane=Lane(new.lane),
            priority=Lane(new.lane),
            group=new.group,
            content_type=new.content_type,
            traceparent=new.traceparent,
            idempotency_key=new.idempotency_key,
            post=post,
            reference=new.reference,
            points=1 if new.points is None else new.points,
            bytes=_size(new),
            accepted_at=now,
            expires_s=new.expires_s,
            expires_at=now + new.delay_s + new.expires_s,
            due_at=now + new.delay_s,
            place=seq,
        )
        if new.dead_reason is not None:
            self._shelf.add(row)
            self._shelf.finish(row, State.DEAD, new.dead_reason, now)
            return row
        rules = self._rules().platforms.get(new.platform)
        if new.key is not None and rules is not None and rules.coalesce:
            older = self._shelf.behind(row)
            if older:
                row.place = older[0].place
                row.due_at = row.due_at if new.delay_s else min(now, older[0].due_at)
                row.lane = min(row.lane, *(old.lane for old in older))
            if rules.quiet_s:
                row.gathered_since = min((old.gathered_since or old.accepted_at for old in older), default=now)
                quiet_at = min(now + rules.quiet_s, row.gathered_since + rules.gather_s)
                row.due_at = max(quiet_at, now + new.delay_s)
            for old in older:
                old.superseded_by = row.id
                self._shelf.finish(old, State.SUPERSEDED, "coalesced", now)
        self._shelf.add(row)
        return row

    def remove_ended(self, ended_at: float, seq: int) -> None:
        """Remove a row that ended at that time, unless it was revived since."""
        row = self._shelf.rows.get(seq)
        if row is None or row.state is State.PENDING or row.ended_at != ended_at:
            return
        self._shelf.remove(row)
        if row.idempotency_key is not None:
            self._posts.pop((row.platform, row.idempotency_key), None)
        if row.post is not None and not any(seq in self._shelf.rows for seq in self._routed[row.post][1].values()):
            del self._routed[row.post]
        self._batches.kept.forget(row)
