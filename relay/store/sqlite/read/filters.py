"""Turns a ``Filter`` into a WHERE clause over ``callback``, in the words that the partial indexes understand."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relay.core.model import Filter, State
from relay.store.sqlite.file.foreign.public_ids import Execute, PublicIds
from relay.store.sqlite.file.sealed_values import Seals

_STATES = {state.word: state for state in State}
# SQLite uses a partial index only where its condition stands literally.
STATE_SQL = {
    State.PENDING: "state = 0",
    State.DELIVERED: "state = 1",
    State.DEAD: "state IN (2, 3) AND state = 2",
    State.EXPIRED: "state IN (2, 3) AND state = 3",
    State.SUPERSEDED: "state = 4",
}


class Where(NamedTuple):
    """A condition and its parameters."""

    sql: str
    values: tuple[object, ...]


NOTHING = Where("0", ())


def named_rows(wanted: Filter, ids: PublicIds, execute: Execute) -> list[int]:
    """Return the numbers of the callbacks that a filter names by their ids."""
    found = (ids.callback_number(execute, text) for text in wanted.ids)
    return [seq for seq in found if seq is not None]


def where(
    wanted: Filter, seqs: Sequence[int], *, platforms: Mapping[str, int], seals: Seals, state: State | None = None
) -> Where:
    """Return the condition for ``wanted``, narrowed to ``state`` when given; ``platforms`` are all there are.

    ``seqs`` are the callbacks that it names (``named_rows``).

    Platforms are always named, so that an index that leads with them fits a filter over all of them too.
    """
    named = [platforms.get(wanted.platform)] if wanted.platform is not None else list(platforms.values())
    numbers = [number for number in named if number is not None]
    meant = state if wanted.state is None else _STATES.get(wanted.state)
    if not numbers or (wanted.state is not None and (meant is None or state not in (None, meant))):
        return NOTHING
    one = len(numbers) == 1
    parts = [f"platform = {numbers[0]}" if one else f"platform IN ({', '.join(map(str, numbers))})"]
    values: list[object] = []
    if meant is not None:
        parts.append(STATE_SQL[meant])
    if wanted.dropped:
        parts.append("dropped = 1")
    elif wanted.state == State.DEAD.word and not wanted.ids:
        parts.append("dropped = 0")
    if wanted.key is not None:
        named_only = {name: number for name, number in platforms.items() if number in numbers}
        sql, bound = seals.with_key(wanted.key, named_only)
        parts.append(sql)
        values += bound
    for column, value in (
        ("event", wanted.event),
        ("reason", wanted.reason),
        ("code", wanted.code),
    ):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if wanted.ids:
        parts.append(f"seq IN ({', '.join(map(str, seqs))})")
    if wanted.since is not None:
        parts.append("accepted_at >= ?")
        values.append(wanted.since)
    if wanted.until is not None:
        parts.append("accepted_at < ?")
        values.append(wanted.until)
    return Where(" AND ".join(parts), tuple(values))
