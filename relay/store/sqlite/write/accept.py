"""Accepting: the posts of a group become rows in a few statements, each post all or none."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from relay.core.errors import IdempotencyConflict, NoTarget, RelayError, StoreFull
from relay.core.ids import encode_id, encode_ids
from relay.core.model import Accepted, AcceptedPosts, PlatformRules, State
from relay.core.settlement import Ending
from relay.sealing.codec import Column
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.space import Space
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.write.keys import promote, raise_lanes
from relay.store.sqlite.write.rows import INSERT_PAYLOADS, Fan, Packed, PackedPost, RowFacts, insert_callbacks, remember
from relay.store.sqlite.write.settle import end

_KNOWN = """
SELECT json_group_array(json_array(a.rowid - 1, i.seq, hex(i.digest), i.targets))
FROM carray(?1) AS a CROSS JOIN idempotency AS i ON i.hash = a.value
"""
# Which of the keys have somebody waiting already; 0 is no key.
_WAITING = """
SELECT json_group_array(a.rowid - 1) FROM carray(?1) AS a WHERE a.value <> 0 AND EXISTS (
  SELECT 1 FROM callback AS e INDEXED BY callback_key WHERE e.key = a.value AND e.live = 1)
"""
_HELD_BACK = "AND (EXISTS (SELECT 1 FROM key_hold AS h WHERE h.key = a.value) OR EXISTS ("
_WAITING_OR_HELD = f"{_WAITING.replace('AND EXISTS (', _HELD_BACK)})"
_decode_places = msgspec.json.Decoder(list[int]).decode
_PLATFORM, _KEY = RowFacts._fields.index("platform"), RowFacts._fields.index("key")
_NONE: frozenset[int] = frozenset()
_decode_known = msgspec.json.Decoder(list[tuple[int, int, str, str | None]]).decode
_Target = int | tuple[int, int]
"""A platform, whose row has the next number; of a post that was copied from another store, a platform and its row."""
_decode_targets = msgspec.json.Decoder(tuple[_Target, ...]).decode

# Coalescing, for the keyed rows ?1..?2 of one platform ?3: who of their keys waits in no frozen batch.
_OLDER = """SELECT o.seq FROM callback AS o INDEXED BY callback_key WHERE o.key = {row}.key AND o.live = 1
  AND o.seq < {row}.seq AND o.state = 0 AND o.batch IS NULL AND o.held = 0"""
_TAKE_PLACE = f"""
UPDATE callback SET
  due_at = min(due_at, coalesce((SELECT min(p.due_at) FROM callback AS p
    WHERE p.seq IN ({_OLDER.format(row="callback")})), due_at)),
  lane = min(lane, coalesce((SELECT min(p.lane) FROM callback AS p
    WHERE p.seq IN ({_OLDER.format(row="callback")})), lane)),
  prio = min(prio, coalesce((SELECT min(p.lane) FROM callback AS p
    WHERE p.seq IN ({_OLDER.format(row="callback")})), prio))
WHERE seq BETWEEN ?1 AND ?2 AND platform = ?3 AND key IS NOT NULL AND live = 1
"""  # noqa: S608 - built from this file's constants
_GATHER = f"""
UPDATE callback SET gathered_since = coalesce((SELECT min(coalesce(p.gathered_since, p.accepted_at)) FROM callback AS p
  WHERE p.seq IN ({_OLDER.format(row="callback")})), ?4)
WHERE seq BETWEEN ?1 AND ?2 AND platform = ?3 AND key IS NOT NULL AND live = 1
"""  # noqa: S608
_WAIT_FOR_QUIET = """
UPDATE callback SET due_at = min(?4, gathered_since + ?5)
WHERE seq BETWEEN ?1 AND ?2 AND platform = ?3 AND key IS NOT NULL AND live = 1
"""
_DELAY = "UPDATE callback SET due_at = max(due_at, accepted_at + ?1), expires_at = expires_at + ?1 WHERE seq = ?2"
_SUPERSEDE = """
UPDATE callback SET state = 4, live = 0, head = 0, ended_at = ?4, reason = 'coalesced', superseded_by = (
  SELECT max(n.seq) FROM callback AS n WHERE n.seq BETWEEN ?1 AND ?2 AND n.key = callback.key AND n.live = 1)
WHERE seq IN (
  SELECT o.seq FROM (SELECT key, max(seq) AS seq FROM callback
                     WHERE seq BETWEEN ?1 AND ?2 AND platform = ?3 AND key IS NOT NULL AND live = 1
                     GROUP BY key) AS n
    CROSS JOIN callback AS o INDEXED BY callback_key ON o.key = n.key AND o.seq < n.seq
  WHERE o.live = 1 AND o.state = 0 AND o.batch IS NULL AND o.held = 0)
"""


class _Known(NamedTuple):
    """What an idempotency key stands for: the first row, and of a routed post the platforms of its rows."""

    seq: int
    digest: bytes
    targets: tuple[_Target, ...] = ()


class PostWriter:
    """Writes posts; on the writer thread. Holds the counter that numbers callbacks."""

    def __init__(
        self,
        *,
        names: Names,
        seals: Seals,
        rules: Callable[[str], PlatformRules],
        space: Space,
        ids: PublicIds,
        last_seq: int,
    ) -> None:
        self.last_seq = last_seq
        self.looks_at_holds = False  # an operator holds some key back
        self._seals = seals
        self._names = names
        self._rules = rules
        self._space = space
        self._ids = ids

    def write(self, transaction: Transaction, posts: Sequence[PackedPost]) -> list[Any]:
        """Write the posts of a group; return an ``Accepted`` or the refusal for each."""
        self._names.save(transaction)
        for post in posts:
            post.finish(framed=self._seals.codec is not None)
        results: list[Any] = self._space.admit(transaction, [post.bytes for post in posts])
        first = max(self.last_seq + 1, int(transaction.now * 1e6))
        rows = _Rows(first)
        known = self._known(transaction, posts)
        for index, post in enumerate(posts):
            if results[index] is None:
                plan = self._plan if post.fans is None else self._plan_fans
                results[index] = plan(transaction, post, rows, known)
        if rows.facts:
            self._insert(transaction, rows)
        return results

    def move(self, transaction: Transaction, bundles: Sequence[Packed]) -> list[int | StoreFull]:
        """Accept rows made inside the transaction; return the first sequence number of each bundle, or its refusal."""
        self._names.save(transaction)
        refusals = self._space.admit(transaction, [bundle.bytes for bundle in bundles])
        rows = _Rows(max(self.last_seq + 1, int(transaction.now * 1e6)))
        placed = [refusal or rows.take(bundle) for bundle, refusal in zip(bundles, refusals, strict=True)]
        if rows.facts:
            self._insert(transaction, rows)
        return placed

    def knows(self, transaction: Transaction, bundle: Packed) -> bool:
        """Return whether an idempotency key of the rows is known: they were accepted before."""
        return bool(self._known(transaction, [bundle]))

    def add(self, transaction: Transaction, bundle: Packed) -> None:
        """Accept rows made inside the transaction that must not be refused: for want of room nobody is left untold."""
        rows = _Rows(max(self.last_seq + 1, int(transaction.now * 1e6)))
        rows.take(bundle)
        self._insert(transaction, rows)

    def _known(self, transaction: Transaction, posts: Sequence[Packed]) -> dict[int, _Known]:
        """Return which of the posts' idempotency keys the file knows, by their hashes."""
        hashes = [idem for post in posts if post.idempotency for idem, _ in post.idempotency.values()]
        if not hashes:
            return {}
        found = _decode_known(transaction.execute(_KNOWN, (numbers(hashes),)).get)
        return {
            hashes[index]: _Known(seq, bytes.fromhex(digest), () if targets is None else _decode_targets(targets))
            for index, seq, digest, targets in found
        }

    def _plan(
        self, transaction: Transaction, post: PackedPost, rows: "_Rows", known: dict[int, _Known]
    ) -> Accepted | RelayError:
        """Give the post's rows their sequence numbers, or refuse it whole."""
        if not post.idempotency:
            seq = rows.take(post)
            if rows.next == seq + 1:  # most posts: without the detour through a list's common prefix
                return Accepted([encode_id(seq, self._ids.tag)], _NONE)
            return Accepted(encode_ids(range(seq, rows.next), self._ids.tag), _NONE)
        seqs: list[int] = []
        duplicates: set[int] = set()
        fresh: list[int] = []
        added: dict[int, _Known] = {}
        for index in range(len(post.bodies)):
            identity = post.idempotency.get(index)
            if identity is not None:
                idem, digest = identity
                earlier = known.get(idem) or added.get(idem)
                if earlier is not None:
                    if earlier.digest != digest:
                        return IdempotencyConflict(index)
                    duplicates.add(index)
                    seqs.append(earlier.seq)
                    continue
                added[idem] = _Known(rows.next + len(fresh), digest)
            seqs.append(rows.next + len(fresh))
            fresh.append(index)
        known.update(added)
        rows.take_some(post, fresh)
        return Accepted(self._ids.callbacks(transaction.execute, seqs), frozenset(duplicates))

    def _plan_fans(
        self, transaction: Transaction, post: PackedPost, rows: "_Rows", known: dict[int, _Known]
    ) -> AcceptedPosts | RelayError:
        """Give the rows of routed posts their sequence numbers, or refuse them all."""
        assert post.fans is not None
        placed: list[_Known] = []
        duplicates: set[int] = set()
        fresh: list[tuple[Fan, tuple[int, bytes] | None]] = []
        added: dict[int, _Known] = {}
        at = rows.next
        for index, fan in enumerate(post.fans):
            identity = post.idempotency.get(index)
            idem, digest = identity or (0, b"")
            earlier = (known.get(idem) or added.get(idem)) if identity is not None else None
            if earlier is not None:
                if earlier.digest != digest:
                    return IdempotencyConflict(index)
                duplicates.add(index)
                placed.append(earlier)
                continue
            if not fan.platforms:
                return NoTarget(index)
            placed.append(_Known(at, digest, fan.platforms))
            fresh.append((fan, identity))
            at += len(fan.platforms)
            if identity is not None:
                added[idem] = placed[-1]
        known.update(added)
        for fan, identity in fresh:
            rows.take_fan(post, fan, identity)
        return AcceptedPosts([self._told(transaction, one) for one in placed], frozenset(duplicates))

    def _told(self, transaction: Transaction, post: _Known) -> dict[str, str]:
        """Return the ids of a routed post by platform."""
        pairs = [
            (target, post.seq + place) if isinstance(target, int) else target
            for place, target in enumerate(post.targets)
        ]
        ids = self._ids.callbacks(transaction.execute, [seq for _, seq in pairs])
        return {self._names.name(platform): told for (platform, _), told in zip(pairs, ids, strict=True)}

    def _insert(self, transaction: Transaction, rows: "_Rows") -> None:
        execute = transaction.execute
        platforms = [facts[_PLATFORM] for facts in rows.facts]
        bodies = self._seals.bodies(rows.first, platforms, rows.bodies)
        origins = list(self._origins(rows))
        self._seals.save(transaction)
        sealed = int(self._seals.codec is not None)
        execute(INSERT_PAYLOADS, (rows.first - 1, apsw.carray(tuple(bodies)), sealed))
        keys = [facts[_KEY] or 0 for facts in rows.facts]
        for place in rows.dead:
            keys[place] = 0  # it never stands in its key's line
        keyed = any(keys)
        heads = bytearray(b"\1") * len(keys)
        if keyed:
            waiting = _WAITING_OR_HELD if self.looks_at_holds else _WAITING
            for place in _decode_places(execute(waiting, (numbers(keys),)).get):
                heads[place] = 0
            for place in _repeated(keys):
                heads[place] = 0
        insert_callbacks(execute, rows.first, transaction.now, rows.facts, heads)
        if origins:
            transaction.connection.executemany("INSERT INTO origin VALUES (?, ?, ?)", origins)
        if rows.dead:
            self._bury(transaction, rows)
        remember(execute, rows.remembered)
        if 0 in heads:  # only who waits behind another can lend it a better lane
            raise_lanes(transaction, rows.first)
        for platform, count in Counter(platforms).items():
            name = self._names.name(platform)
            transaction.count(platform, "accepted", count)
            transaction.wake(name, count)
            rules = self._rules(name)
            if rules.coalesce:
                self._coalesce(transaction, platform, rows.first, rows.next - 1, rules)
        if rows.delays:
            transaction.connection.executemany(_DELAY, rows.delays)
        if rows.points:
            transaction.connection.executemany("INSERT INTO cost VALUES (?, ?)", rows.points)
        self.last_seq = rows.next - 1
        transaction.rows += len(rows.facts)

    def _origins(self, rows: "_Rows") -> Iterator[tuple[int, str | bytes | None, str | bytes | None]]:
        """Yield what is kept of who posted: each text sealed for its row, where the file is sealed."""
        text = self._seals.text
        for seq, key, reference in rows.origins:
            platform: int = rows.facts[seq - rows.first][_PLATFORM]
            yield (
                seq,
                None if key is None else text(Column.IDEMPOTENCY_KEY, platform, seq, seq, key),
                None if reference is None else text(Column.REFERENCE, platform, seq, seq, reference),
            )

    @staticmethod
    def _bury(transaction: Transaction, rows: "_Rows") -> None:
        """End the rows that cannot be delivered as they are; they block nobody, as they never stood in line."""
        alike: dict[tuple[int, str], list[int]] = {}
        for place, reason in rows.dead.items():
            alike.setdefault((rows.facts[place][_PLATFORM], reason), []).append(rows.first + place)
        for (platform, reason), seqs in alike.items():
            end(transaction, platform, Ending(seqs, State.DEAD, reason), blocks=False)

    @staticmethod
    def _coalesce(transaction: Transaction, platform: int, first: int, last: int, rules: PlatformRules) -> None:
        """Let the newest of each key take the place of the older ones that are in no frozen batch.

        With ``quiet_s`` it waits for more of its key first.
        """
        where = (first, last, platform)
        transaction.execute(_TAKE_PLACE, where)
        if rules.quiet_s:
            transaction.execute(_GATHER, (*where, transaction.now))
            transaction.execute(_WAIT_FOR_QUIET, (*where, transaction.now + rules.quiet_s, rules.gather_s))
        transaction.execute(_SUPERSEDE, (*where, transaction.now))
        transaction.count(platform, "superseded", transaction.connection.changes())
        promote(transaction, list(range(first, last + 1)))


class _Rows:
    """The rows of a group that will be inserted, in one sequence."""

    __slots__ = ("bodies", "dead", "delays", "facts", "first", "next", "origins", "points", "remembered")

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.facts: list[tuple[Any, ...]] = []
        self.bodies: list[bytes] = []
        self.remembered: list[tuple[int, int, bytes, str | None]] = []  # hash, seq, digest, targets
        self.dead: dict[int, str] = {}  # place in this group -> why it ends at once
        self.origins: list[tuple[int, str | None, str | None]] = []  # seq, idempotency key, reference
        self.delays: list[tuple[float, int]] = []  # seconds, seq
        self.points: list[tuple[int, int]] = []  # seq, points

    def take(self, post: Packed) -> int:
        """Add a whole post; return its first sequence number."""
        seq = self.next
        self.dead.update((seq - self.first + index, reason) for index, reason in post.dead.items())
        self.origins += [(seq + index, *origin) for index, origin in post.origins.items()]
        if post.idempotency:
            self.remembered += [(idem, seq + at, digest, None) for at, (idem, digest) in post.idempotency.items()]
        self.delays += [(delay_s, seq + index) for index, delay_s in post.delays.items()]
        self.points += [(seq + index, points) for index, points in post.points.items()]
        self.facts += post.facts
        self.bodies += post.bodies
        self.next += len(post.bodies)
        return seq

    def take_some(self, post: PackedPost, indexes: Sequence[int]) -> None:
        """Add these rows of a post."""
        for index in indexes:
            identity = post.idempotency.get(index)
            if identity is not None:
                idem, digest = identity
                self.remembered.append((idem, self.next, digest, None))
            if index in post.dead:
                self.dead[self.next - self.first] = post.dead[index]
            if index in post.origins:
                self.origins.append((self.next, *post.origins[index]))
            if index in post.delays:
                self.delays.append((post.delays[index], self.next))
            if index in post.points:
                self.points.append((self.next, post.points[index]))
            self.facts.append(post.facts[index])
            self.bodies.append(post.bodies[index])
            self.next += 1

    def take_fan(self, post: PackedPost, fan: Fan, identity: tuple[int, bytes] | None) -> None:
        """Add the rows of a routed post."""
        last = fan.first + len(fan.platforms)
        if identity is not None:
            idem, digest = identity
            self.remembered.append((idem, self.next, digest, msgspec.json.encode(fan.platforms).decode()))
        for place, index in enumerate(range(fan.first, last), self.next - self.first):
            reason = fan.dead_reason or post.dead.get(index)
            if reason is not None:
                self.dead[place] = reason
            if index in post.origins:
                self.origins.append((self.first + place, *post.origins[index]))
            if index in post.delays:
                self.delays.append((post.delays[index], self.first + place))
            if index in post.points:
                self.points.append((self.first + place, post.points[index]))
        self.facts += post.facts[fan.first : last]
        self.bodies += post.bodies[fan.first : last]
        self.next += len(fan.platforms)


def _repeated(keys: Sequence[int]) -> list[int]:
    """Return the places of keys that came earlier in ``keys``; 0 is no key."""
    if len(set(keys)) == len(keys):
        return []
    seen: set[int] = set()
    again: list[int] = []
    for place, key in enumerate(keys):
        if key:
            if key in seen:
                again.append(place)
            else:
                seen.add(key)
    return again
