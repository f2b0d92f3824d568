"""Operations: what a person does to many callbacks at once, fixed when it starts and carried out in steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from relay.core.errors import CountMismatch, StoreError
from relay.core.ids import encode_id
from relay.core.model import UNROUTED, Ended, Ending, Filter, PlatformRules, State, Stepped
from relay.store.base import Reroute
from relay.store.sqlite.filters import where
from relay.store.sqlite.keys import PRIO_OF, demote, promote
from relay.store.sqlite.names import Names
from relay.store.sqlite.reroute import Reroutes
from relay.store.sqlite.settle import Settles, end
from relay.store.sqlite.transaction import Transaction, numbers

_LISTED = 100  # ids of skipped callbacks shown with an operation's progress
_MEANT: dict[str, tuple[State, ...]] = {
    "retry": (State.DEAD, State.EXPIRED),
    "drop": (State.PENDING, State.DEAD),
    "expire": (State.PENDING,),
    "resolve": (State.PENDING,),
}
_VERDICTS = ("delivered", "retry", "dead")
_PROGRESS = """SELECT number, action, matched, done, skipped, failed, started_at, finished_at, filter, options
FROM operation WHERE number = ?"""
_FACTS = """
SELECT json_group_array(json_array(
  i.seq, c.platform, c.state, c.batch IS NOT NULL, c.held, c.overtaken, p.seq IS NOT NULL))
FROM (SELECT seq FROM operation_item WHERE operation = ?1 ORDER BY seq LIMIT ?2) AS i
  LEFT JOIN callback AS c ON c.seq = i.seq LEFT JOIN payload AS p ON p.seq = i.seq
"""
_TRAIL = "CASE WHEN batch IS NULL THEN trail ELSE substr(coalesce(trail || ' ', '') || batch, -339) END"
_REVIVE = f"""
UPDATE callback SET state = 0, live = 1, head = key IS NULL, lane = 3, prio = {PRIO_OF.format(lane=3)},
  due_at = ?2, spent = 0, first_sent_at = 0.0, expires_at = ?2 + expires_s, ended_at = NULL, reason = NULL,
  message = NULL, trail = {_TRAIL}, batch = NULL
WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608 - built from this file's constants
_OWN_LANE = "CASE WHEN lane = 1 THEN 2 ELSE lane END"
_RESUME = f"""
UPDATE callback SET held = 0, head = key IS NULL, due_at = ?2, lane = {_OWN_LANE},
  prio = {PRIO_OF.format(lane=_OWN_LANE)}
WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608

# seq, platform, state, frozen, held, overtaken, has a payload; all but seq are None when the row is gone.
_Facts = tuple[int, int | None, int | None, int | None, int | None, int | None, int | None]
_decode_facts = msgspec.json.Decoder(list[_Facts]).decode


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Operations:
    """Starts operations and carries them out; on the writer thread."""

    def __init__(
        self, *, names: Names, settles: Settles, reroutes: Reroutes, rules: Callable[[str], PlatformRules], tag: int
    ) -> None:
        self._names = names
        self._settles = settles
        self._reroutes = reroutes
        self._rules = rules
        self._tag = tag

    def start(
        self,
        transaction: Transaction,
        action: str,
        wanted: Filter,
        options: Mapping[str, Any],
        expect_count: int | None,
    ) -> dict[str, Any]:
        """Fix the matches. Raises ``CountMismatch``, and ``ValueError`` for an unknown action or verdict."""
        states = _MEANT.get(action)
        if states is None:
            raise ValueError(f"unknown action {action!r}: one of {', '.join(_MEANT)}")
        if action == "resolve" and options.get("as") not in _VERDICTS:
            raise ValueError(f'resolve needs "as": one of {", ".join(_VERDICTS)}')
        platforms = self._names.all()
        found = [where(wanted, tag=self._tag, platforms=platforms, state=state) for state in states]
        held = " AND held = 1" if action == "resolve" else ""
        meant = [(f"FROM callback WHERE ({sql}){held}", values) for sql, values in found]
        execute = transaction.execute
        if expect_count is not None:
            count = sum(execute(f"SELECT count(*) {matching}", values).get for matching, values in meant)
            if count != expect_count:
                raise CountMismatch(expect_count, count)
        number = execute("SELECT coalesce(max(number), 0) + 1 FROM operation").get
        matched = 0
        for matching, values in meant:
            execute(f"INSERT INTO operation_item SELECT {number}, seq {matching}", values)
            matched += transaction.connection.changes()
        shown = {name: value for name, value in asdict(wanted).items() if value}
        now = transaction.now
        execute(
            "INSERT INTO operation (number, action, filter, options, matched, done, skipped, failed, started_at, "
            "finished_at) VALUES (?, ?, ?, ?, ?, 0, '{}', '[]', ?, ?)",
            (number, action, _json(shown), _json(dict(options)), matched, now, None if matched else now),
        )
        return _shown(execute(_PROGRESS, (number,)).get)

    def step(self, transaction: Transaction, number: int, limit: int, reroute: Reroute) -> Stepped:
        """Apply an operation to at most its next ``limit`` matches.

        Raises ``StoreError`` when there is no such operation.
        """
        row = transaction.execute(_PROGRESS, (number,)).get
        if row is None:
            raise StoreError(f"there is no operation {number}")
        progress = _shown(row)
        facts: Sequence[_Facts] = _decode_facts(transaction.execute(_FACTS, (number, limit)).get)
        if progress["action"] == "retry":
            facts = self._reroutes.bounded(transaction, facts)
        act: dict[str, Callable[[Transaction, Sequence[_Facts], Mapping[str, Any]], _Sorted]]
        act = {
            "retry": partial(self._retry, reroute),
            "drop": self._drop,
            "expire": self._expire,
            "resolve": self._resolve,
        }
        sorted_out = act[progress["action"]](transaction, facts, progress["options"]) if facts else _Sorted()
        for reason, seqs in sorted_out.skipped.items():
            progress["skipped"][reason] = progress["skipped"].get(reason, 0) + len(seqs)
            if reason != "gone":
                progress["failed"] += [encode_id(seq, self._tag) for seq in seqs]
        progress["failed"] = progress["failed"][:_LISTED]
        progress["done"] += len(facts) - sum(map(len, sorted_out.skipped.values()))
        if facts:
            transaction.execute("DELETE FROM operation_item WHERE operation = ? AND seq <= ?", (number, facts[-1][0]))
        left = "SELECT EXISTS (SELECT 1 FROM operation_item WHERE operation = ?)"
        if progress["finished_at"] is None and not transaction.execute(left, (number,)).get:
            progress["finished_at"] = transaction.now
        progress["state"] = "running" if progress["finished_at"] is None else "done"
        transaction.execute(
            "UPDATE operation SET done = ?, skipped = ?, failed = ?, finished_at = ? WHERE number = ?",
            (
                progress["done"],
                _json(progress["skipped"]),
                _json(progress["failed"]),
                progress["finished_at"],
                number,
            ),
        )
        return Stepped(progress, sorted_out.ended)

    @staticmethod
    def progress(transaction: Transaction, number: int) -> dict[str, Any] | None:
        """Return an operation's progress, or None."""
        row = transaction.execute(_PROGRESS, (number,)).get
        return None if row is None else _shown(row)

    @staticmethod
    def open(transaction: Transaction) -> list[int]:
        """Return the operations that are not done."""
        found = transaction.execute(
            "SELECT number FROM operation INDEXED BY operation_open WHERE finished_at IS NULL ORDER BY number"
        )
        return [number for (number,) in found]

    def unblock(self, transaction: Transaction, platform: str) -> None:
        """Let the keys of a platform go on past their dead heads."""
        number = self._names.known(platform)
        if number is None:
            return
        found = transaction.execute(
            "SELECT json_group_array(seq) FROM callback INDEXED BY callback_blocking "
            "WHERE platform = ? AND live = 1 AND state = 2",
            (number,),
        ).get
        self._unblock(transaction, platform, msgspec.json.decode(found, type=list[int]))

    @staticmethod
    def _unblock(transaction: Transaction, platform: str, seqs: list[int]) -> None:
        if seqs:
            transaction.execute(
                "UPDATE callback SET live = 0 WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),)
            )
            transaction.wake(platform, promote(transaction, seqs))

    # Each carries out one action on the rows it fits and returns what became of which.

    def _retry(
        self, reroute: Reroute, transaction: Transaction, facts: Sequence[_Facts], options: Mapping[str, Any]
    ) -> "_Sorted":
        sorted_out = _Sorted()
        unrouted = self._names.known(UNROUTED)
        astray: list[int] = []
        for seq, platform, state, _, _, overtaken, has_payload in facts:
            if state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif state not in (State.DEAD, State.EXPIRED):
                sorted_out.skip("state", seq)
            elif not has_payload:
                sorted_out.skip("no_payload", seq)
            elif platform == unrouted:
                astray.append(seq)
            elif overtaken and not options.get("reorder"):
                sorted_out.skip("overtaken", seq)
            else:
                sorted_out.take(platform, seq, State(state))
        for (platform, state), seqs in sorted_out.taken.items():
            transaction.execute(_REVIVE, (numbers(seqs), transaction.now))
            transaction.count(platform, state.word, -len(seqs))
            demote(transaction, seqs)
            promote(transaction, seqs)
            transaction.wake(self._names.name(platform), len(seqs))
        for seq, reason in self._reroutes.carry_out(transaction, astray, reroute):
            sorted_out.skip(reason, seq)
        return sorted_out

    def _drop(self, transaction: Transaction, facts: Sequence[_Facts], options: Mapping[str, Any]) -> "_Sorted":
        dead = [row for row in facts if row[2] == State.DEAD]
        if dead:
            seqs = [row[0] for row in dead]
            transaction.execute("DELETE FROM payload WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),))
            transaction.execute(
                "UPDATE callback SET bytes = 0 WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),)
            )
            for platform in {row[1] for row in dead if row[1] is not None}:
                own = [row[0] for row in dead if row[1] == platform]
                self._unblock(transaction, self._names.name(platform), own)
        others = [row for row in facts if row[2] != State.DEAD]
        return self._end(transaction, others, State.DEAD, "dropped")

    def _expire(self, transaction: Transaction, facts: Sequence[_Facts], options: Mapping[str, Any]) -> "_Sorted":
        return self._end(transaction, facts, State.EXPIRED, "operator")

    def _end(self, transaction: Transaction, facts: Sequence[_Facts], state: State, reason: str) -> "_Sorted":
        sorted_out = _Sorted()
        for seq, platform, now_state, frozen, _, _, _ in facts:
            if now_state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif now_state != State.PENDING:
                sorted_out.skip("state", seq)
            elif frozen:
                sorted_out.skip("in_flight", seq)
            else:
                sorted_out.take(platform, seq, state)
        for (platform, _), seqs in sorted_out.taken.items():
            end(transaction, platform, Ending(seqs, state, reason), blocks=False)
            name = self._names.name(platform)
            transaction.wake(name, promote(transaction, seqs))
            sorted_out.ended.append(Ended(name, state, reason, len(seqs)))
        return sorted_out

    def _resolve(self, transaction: Transaction, facts: Sequence[_Facts], options: Mapping[str, Any]) -> "_Sorted":
        sorted_out = _Sorted()
        for seq, platform, state, _, held, _, _ in facts:
            if state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif not held:
                sorted_out.skip("state", seq)
            else:
                sorted_out.take(platform, seq, State.PENDING)
        for (platform, _), seqs in sorted_out.taken.items():
            name = self._names.name(platform)
            freed = 0
            if options["as"] == "delivered":
                self._settles.deliver(transaction, platform, seqs, "resolved")
            elif options["as"] == "retry":
                transaction.execute(_RESUME, (numbers(seqs), transaction.now))
                freed = len(seqs)
            else:
                blocks = self._rules(name).block_on_dead
                end(transaction, platform, Ending(seqs, State.DEAD, "resolved"), blocks=blocks)
                sorted_out.ended.append(Ended(name, State.DEAD, "resolved", len(seqs)))
            transaction.wake(name, promote(transaction, seqs) + freed)
        return sorted_out


class _Sorted:
    """Rows by what happens to them, and what that ended."""

    def __init__(self) -> None:
        self.taken: dict[tuple[int, State], list[int]] = {}
        self.skipped: dict[str, list[int]] = {}
        self.ended: list[Ended] = []

    def take(self, platform: int, seq: int, state: State) -> None:
        """Carry the action out on this one."""
        self.taken.setdefault((platform, state), []).append(seq)

    def skip(self, reason: str, seq: int) -> None:
        """Leave this one as it is."""
        self.skipped.setdefault(reason, []).append(seq)


def _shown(row: Any) -> dict[str, Any]:
    number, action, matched, done, skipped, failed, started_at, finished_at, wanted, options = row
    return {
        "number": number,
        "action": action,
        "state": "running" if finished_at is None else "done",
        "matched": matched,
        "done": done,
        "skipped": msgspec.json.decode(skipped),
        "failed": msgspec.json.decode(failed),
        "started_at": started_at,
        "finished_at": finished_at,
        "filter": msgspec.json.decode(wanted),
        "options": msgspec.json.decode(options),
    }
