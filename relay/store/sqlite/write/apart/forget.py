"""Destroys what a callback holds of a person: payload, ordering key, reference, platforms' words, excerpts of answers.

The row stays with its state, its times and the hash of its ordering key, so totals and order do not change. What was
sealed for whole days goes with the data keys of those days too. At the end the write-ahead log is emptied.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from relay.core.model import Filter
from relay.sealing.codec import DAY_S, NOBODY, Codec, Column, days_over
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import Transaction, numbers

_ERASE = """
UPDATE callback SET key_text = NULL, message = NULL, bytes = 0,
  dropped = iif(state = 2 AND ?2, 1, dropped)
WHERE seq IN (SELECT value FROM carray(?1))
"""
_BATCHES = "SELECT coalesce(trail, ''), batch FROM callback WHERE seq IN (SELECT value FROM carray(?))"
_EXCERPTS = """
UPDATE attempt SET excerpt = NULL WHERE excerpt IS NOT NULL AND excerpt <> ''
  AND batch IN (SELECT value FROM carray(?)) RETURNING platform
"""
_OLDEST = "SELECT min(?1, coalesce((SELECT min(seq) FROM callback), ?1), coalesce((SELECT min(number) FROM batch), ?1))"
_DAYS = "DELETE FROM data_key WHERE platform <> ?1 AND day < ?2 AND (?3 IS NULL OR platform = ?3) RETURNING id"


class Forgets:
    """Destroys in steps; on the writing thread."""

    def __init__(self, seals: Seals, wipe: Callable[[Transaction], None]) -> None:
        """``wipe`` empties the write-ahead log after the commit."""
        self._seals = seals
        self._wipe = wipe

    def erase(self, transaction: Transaction, seqs: Sequence[int], *, lay_dead: bool) -> None:
        """Destroy what these callbacks hold; ``lay_dead``: those that are dead leave the list of dead letters."""
        if not seqs:
            return
        bound = numbers(seqs)
        transaction.execute("DELETE FROM payload WHERE seq IN (SELECT value FROM carray(?))", (bound,))
        transaction.execute("DELETE FROM origin WHERE seq IN (SELECT value FROM carray(?))", (bound,))
        transaction.execute(_ERASE, (bound, lay_dead))
        batches: set[int] = set()
        for trail, batch in transaction.execute(_BATCHES, (bound,)):
            batches.update(int(number) for number in trail.split())
            batches.update(() if batch is None else (batch,))
        if batches:
            rows: list[Any] = transaction.execute(_EXCERPTS, (numbers(batches),)).fetchall()
            self._last_errors(transaction, {platform for (platform,) in rows})

    def _last_errors(self, transaction: Transaction, platforms: Iterable[int]) -> None:
        """Take the excerpt out of the last error of each platform: it may be one of those destroyed."""
        for platform in platforms:
            kept = transaction.execute("SELECT last_error FROM ledger WHERE platform = ?", (platform,)).get
            text = self._seals.shown(Column.LAST_ERROR, NOBODY, platform, kept)
            if text is None:
                continue
            try:
                error = {**msgspec.json.decode(text), "excerpt": ""}
            except msgspec.DecodeError:  # it does not open
                error = None
            anew = None if error is None else msgspec.json.encode(error).decode()
            sealed = None if anew is None else self._seals.text(Column.LAST_ERROR, NOBODY, 0, platform, anew)
            transaction.execute("UPDATE ledger SET last_error = ? WHERE platform = ?", (sealed, platform))
        self._seals.save(transaction)

    def other_mentions(self, transaction: Transaction, key: str, mark: str) -> None:
        """Take an ordering key out of the filters of earlier operations; ``mark`` stands for it."""
        rows: list[Any] = transaction.execute(
            "SELECT number, filter, sealed_key FROM operation WHERE sealed_key IS NOT NULL OR filter ->> 'key' = ?",
            (key,),
        ).fetchall()
        for number, text, sealed in rows:
            wanted = msgspec.json.decode(text)
            if sealed is not None and self._seals.shown(Column.FILTER, NOBODY, number, sealed) != key:
                continue
            changed = msgspec.json.encode({**wanted, "key": mark}).decode()
            transaction.execute(
                "UPDATE operation SET filter = ?, sealed_key = NULL WHERE number = ?", (changed, number)
            )

    def drop_unused_keys(self, transaction: Transaction) -> None:
        """Delete the data keys of days of which nothing is kept any more; a day more stays, for rows near midnight."""
        codec = self._seals.codec
        if codec is None:
            return
        oldest = transaction.execute(_OLDEST, (transaction.now * 1e6,)).get
        _drop_keys(transaction, codec, before_day=int(oldest / 1e6 // DAY_S) - 1, platform=None)

    def finish(self, transaction: Transaction, wanted: Filter, platform: int | None, *, asked_at: float) -> None:
        """Destroy the data keys of days that were meant as a whole, and wipe what deleting left.

        ``platform`` is the number of the platform that is meant, if one is and the store knows it.
        """
        codec = self._seals.codec
        whole_days = Filter(platform=wanted.platform, until=wanted.until) == wanted
        unknown = wanted.platform is not None and platform is None
        if codec is not None and wanted.until is not None and whole_days and not unknown:
            day = days_over(wanted.until, asked_at=asked_at)
            _drop_keys(transaction, codec, before_day=day, platform=platform)
        self._wipe(transaction)


def _drop_keys(transaction: Transaction, codec: Codec, *, before_day: int, platform: int | None) -> None:
    """Delete the data keys of days before ``before_day``, of one platform or of all."""
    deleted: list[Any] = transaction.execute(_DAYS, (NOBODY, before_day, platform)).fetchall()
    gone = codec.drop(number for (number,) in deleted)
    transaction.on_rollback.append(lambda: codec.take_all(gone))
