"""Operations: what a person does to many callbacks at once, fixed when it starts and carried out in steps."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from relay.core.errors import CountMismatch, StoreError
from relay.core.model import UNROUTED, Ended, Filter, PlatformRules, State
from relay.core.raw import Record
from relay.core.settlement import Ending
from relay.sealing.codec import NOBODY, Column
from relay.store.base import Reroute, Stepped
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.trail import keep_deed
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.read.filters import named_rows, where
from relay.store.sqlite.read.operations import PROGRESS, shown
from relay.store.sqlite.write.apart.forget import Forgets
from relay.store.sqlite.write.keys import PRIO_OF, demote, promote
from relay.store.sqlite.write.matches import Matches, MatchFacts, Sorted
from relay.store.sqlite.write.reroute import RESENT, Reroutes, Resends
from relay.store.sqlite.write.settle import Settles, end
from relay.views.operation_view import OperationOptions, OperationView, filter_of

_LISTED = 100  # ids of skipped callbacks shown with an operation's progress
_MEANT: dict[str, tuple[State | None, ...]] = {
    "retry": (State.DEAD, State.EXPIRED),
    "drop": (State.PENDING, State.DEAD),
    "expire": (State.PENDING,),
    "resolve": (State.PENDING,),
    "forget": (None,),  # in whatever state
    "resend": RESENT,
}
_VERDICTS = ("delivered", "retry", "dead")
_TRAIL = "CASE WHEN batch IS NULL THEN trail ELSE substr(coalesce(trail || ' ', '') || batch, -339) END"
_REVIVE = f"""
UPDATE callback SET state = 0, live = 1, head = key IS NULL, lane = 3, prio = {PRIO_OF.format(lane=3)},
  due_at = ?2, spent = 0, first_sent_at = 0.0, expires_at = ?2 + expires_s, ended_at = NULL, reason = NULL,
  message = NULL, code = NULL, trail = {_TRAIL}, batch = NULL
WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608 - built from this file's constants
_OWN_LANE = "CASE WHEN lane = 1 THEN 2 ELSE lane END"
_RESUME = f"""
UPDATE callback SET held = 0, head = key IS NULL, due_at = ?2, lane = {_OWN_LANE},
  prio = {PRIO_OF.format(lane=_OWN_LANE)}
WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class OperationWriter:
    """Starts operations and carries them out; on the writer thread."""

    def __init__(
        self,
        *,
        names: Names,
        seals: Seals,
        forgets: Forgets,
        matches: Matches,
        settles: Settles,
        reroutes: Reroutes,
        resends: Resends,
        rules: Callable[[str], PlatformRules],
        ids: PublicIds,
    ) -> None:
        self._names = names
        self._seals = seals
        self._forgets = forgets
        self._matches = matches
        self._settles = settles
        self._reroutes = reroutes
        self._resends = resends
        self._rules = rules
        self._ids = ids

    def start(
        self,
        transaction: Transaction,
        action: str,
        wanted: Filter,
        options: OperationOptions,
        expect_count: int | None,
        deed: Record | None,
    ) -> OperationView:
        """Fix the matches, and keep the audit record ``deed``.

        Raises ``CountMismatch``, and ``ValueError`` for an unknown action or verdict.
        """
        states = _MEANT.get(action)
        if states is None:
            raise ValueError(f"unknown action {action!r}: one of {', '.join(_MEANT)}")
        if action == "resolve" and options.verdict not in _VERDICTS:
            raise ValueError(f'resolve needs "as": one of {", ".join(_VERDICTS)}')
        platforms = self._names.all()
        numbered = named_rows(wanted, self._ids, transaction.execute)
        found = [where(wanted, numbered, platforms=platforms, seals=self._seals, state=state) for state in states]
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
        given = {name: value for name, value in asdict(wanted).items() if value}
        sealed_key = None
        if action == "forget" and wanted.key:
            given["key"] = self._seals.mark(wanted.key)
            self._forgets.other_mentions(transaction, wanted.key, given["key"])
        elif wanted.key and self._seals.codec is not None:
            sealed_key = self._seals.text(Column.FILTER, NOBODY, 0, number, given.pop("key"))
        now = transaction.now
        execute(
            "INSERT INTO operation (number, action, filter, options, matched, done, skipped, failed, started_at, "
            "finished_at, sealed_key) VALUES (?, ?, ?, ?, ?, 0, '{}', '[]', ?, ?, ?)",
            (number, action, _json(given), _json(options), matched, now, None if matched else now, sealed_key),
        )
        keep_deed(transaction, deed)
        if action == "forget" and not matched:
            number_of = self._names.known(wanted.platform or "")
            self._forgets.finish(transaction, wanted, number_of, asked_at=now)
        return shown(execute(PROGRESS, (number,)).get, self._seals)

    def step(self, transaction: Transaction, number: int, limit: int, reroute: Reroute) -> Stepped:
        """Apply an operation to at most its next ``limit`` matches.

        Raises ``StoreError`` when there is no such operation.
        """
        row = transaction.execute(PROGRESS, (number,)).get
        if row is None:
            raise StoreError(f"there is no operation {number}")
        progress = shown(row, self._seals)
        facts: Sequence[MatchFacts] = self._matches.next(transaction, number, limit)
        if progress.action == "retry":
            facts = self._reroutes.bounded(transaction, facts)
        act: dict[str, Callable[[Transaction, Sequence[MatchFacts], OperationOptions], Sorted]]
        act = {
            "retry": partial(self._retry, reroute),
            "drop": partial(self._drop, number),
            "expire": partial(self._expire, number),
            "resolve": self._resolve,
            "forget": partial(self._forget, number),
            "resend": self._resends.carry_out,
        }
        sorted_out = act[progress.action](transaction, facts, progress.options) if facts else Sorted()
        skipped, failed = progress.skipped, progress.failed
        for reason, seqs in sorted_out.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + len(seqs)
            if reason != "gone":
                failed += self._ids.callbacks(transaction.execute, list(seqs))
        looked_at = {row.seq for row in facts} | set(sorted_out.given_up)
        spared = (*sorted_out.skipped.values(), *sorted_out.waiting.values())
        done = progress.done + len(looked_at) - sum(map(len, spared))
        if facts:
            self._matches.take_off(transaction, number, looked_at, sorted_out.waiting)
        finished_at: float | None = progress.finished_at
        if finished_at is None and not self._matches.left(transaction, number):
            finished_at = transaction.now
            if progress.action == "forget":
                wanted = filter_of(progress.filter)
                number_of = self._names.known(wanted.platform or "")
                self._forgets.finish(transaction, wanted, number_of, asked_at=progress.started_at)
        transaction.execute(
            "UPDATE operation SET done = ?, skipped = ?, failed = ?, finished_at = ? WHERE number = ?",
            (done, _json(skipped), _json(failed[:_LISTED]), finished_at, number),
        )
        return Stepped(shown(transaction.execute(PROGRESS, (number,)).get, self._seals), sorted_out.ended)

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
        self, reroute: Reroute, transaction: Transaction, facts: Sequence[MatchFacts], options: OperationOptions
    ) -> Sorted:
        sorted_out = Sorted()
        unrouted = self._names.known(UNROUTED)
        astray: list[int] = []
        for seq, platform, state, _, _, overtaken, has_payload, _ in facts:
            if state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif state not in (State.DEAD, State.EXPIRED):
                sorted_out.skip("state", seq)
            elif not has_payload:
                sorted_out.skip("no_payload", seq)
            elif platform == unrouted:
                astray.append(seq)
            elif overtaken and options.reorder is not True:
                sorted_out.skip("overtaken", seq)
            else:
                sorted_out.take(platform, seq, State(state))
        for (platform, state), seqs in sorted_out.taken.items():
            transaction.execute(_REVIVE, (numbers(seqs), transaction.now))
            transaction.count(platform, state.word, -len(seqs))
            demote(transaction, seqs)
            promote(transaction, seqs)
            transaction.wake(self._names.name(platform), len(seqs))
        self._reroutes.carry_out(transaction, astray, reroute, sorted_out)
        return sorted_out

    def _drop(
        self, number: int, transaction: Transaction, facts: Sequence[MatchFacts], options: OperationOptions
    ) -> Sorted:
        # What died while it waited to be dropped keeps its payload, as what is dropped does.
        dead = [row for row in facts if row.state == State.DEAD and not row.waited]
        if dead:
            seqs = [row.seq for row in dead]
            self._seals.keep_keys(transaction, seqs)
            transaction.execute("DELETE FROM payload WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),))
            transaction.execute(
                "UPDATE callback SET bytes = 0, dropped = 1 WHERE seq IN (SELECT value FROM carray(?))",
                (numbers(seqs),),
            )
            for platform in {row.platform for row in dead if row.platform is not None}:
                own = [row.seq for row in dead if row.platform == platform]
                self._unblock(transaction, self._names.name(platform), own)
        others = [row for row in facts if row.state != State.DEAD or row.waited]
        return self._end(number, transaction, others, State.DEAD, "dropped")

    def _forget(
        self, number: int, transaction: Transaction, facts: Sequence[MatchFacts], options: OperationOptions
    ) -> Sorted:
        pending = [row for row in facts if row.state == State.PENDING]
        sorted_out = self._end(number, transaction, pending, State.DEAD, "forgotten")
        ended = [seq for seqs in sorted_out.taken.values() for seq in seqs]
        self._forgets.erase(transaction, ended, lay_dead=False)
        others = [row for row in facts if row.state != State.PENDING]
        for row in others:
            if row.state is None:
                sorted_out.skip("gone", row.seq)
        lay = [row for row in others if row.state is not None and row.seq not in ended]
        self._forgets.erase(transaction, [row.seq for row in lay], lay_dead=True)
        for platform in {row.platform for row in lay if row.state == State.DEAD and row.platform is not None}:
            own = [row.seq for row in lay if row.state == State.DEAD and row.platform == platform]
            self._unblock(transaction, self._names.name(platform), own)
        return sorted_out

    def _expire(
        self, number: int, transaction: Transaction, facts: Sequence[MatchFacts], options: OperationOptions
    ) -> Sorted:
        return self._end(number, transaction, facts, State.EXPIRED, "operator")

    def _end(
        self, number: int, transaction: Transaction, facts: Sequence[MatchFacts], state: State, reason: str
    ) -> Sorted:
        sorted_out = Sorted()
        given_up: set[int] = set()
        for seq, platform, now_state, batch, *_ in facts:
            if now_state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif now_state != State.PENDING:
                sorted_out.skip("state", seq)
            elif batch is None:
                sorted_out.take(platform, seq, state)
            elif batch in sorted_out.waiting:
                sorted_out.wait(batch, seq)
            elif batch not in given_up:
                members = self._matches.give_up(transaction, number, batch)
                if members is None:
                    sorted_out.wait(batch, seq)
                    continue
                given_up.add(batch)
                sorted_out.given_up += members
                for member in members:
                    sorted_out.take(platform, member, state)
        for (platform, _), seqs in sorted_out.taken.items():
            end(transaction, platform, Ending(seqs, state, reason), blocks=False)
            name = self._names.name(platform)
            transaction.wake(name, promote(transaction, seqs))
            sorted_out.ended.append(Ended(name, state, reason, len(seqs)))
        return sorted_out

    def _resolve(self, transaction: Transaction, facts: Sequence[MatchFacts], options: OperationOptions) -> Sorted:
        sorted_out = Sorted()
        for seq, platform, state, _, held, *_ in facts:
            if state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif not held:
                sorted_out.skip("state", seq)
            else:
                sorted_out.take(platform, seq, State.PENDING)
        for (platform, _), seqs in sorted_out.taken.items():
            name = self._names.name(platform)
            freed = 0
            if options.verdict == "delivered":
                self._settles.deliver(transaction, platform, seqs, "resolved")
            elif options.verdict == "retry":
                transaction.execute(_RESUME, (numbers(seqs), transaction.now))
                freed = len(seqs)
            else:
                blocks = self._rules(name).block_on_dead
                end(transaction, platform, Ending(seqs, State.DEAD, "resolved"), blocks=blocks)
                sorted_out.ended.append(Ended(name, State.DEAD, "resolved", len(seqs)))
            transaction.wake(name, promote(transaction, seqs) + freed)
        return sorted_out
