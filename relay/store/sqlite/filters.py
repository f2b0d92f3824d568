"""Turns a ``Filter`` into a WHERE clause over ``callback``."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.core.ids import decode_id
from relay.core.model import Filter, State

_STATES = {state.word: int(state) for state in State}
_NOTHING = "0"


class Where(NamedTuple):
    """A condition and its parameters, and the shelf's platforms where the index of dead and expired fits."""

    sql: str
    values: tuple[object, ...]


def where(
    wanted: Filter, *, tag: int, platform: Callable[[str], int | None], states: Sequence[State] | None = None
) -> Where:
    """Return the condition for ``wanted``; ``platform`` gives a name's number, ``states`` narrows to some states."""
    parts: list[str] = []
    values: list[object] = []
    if wanted.platform is not None:
        number = platform(wanted.platform)
        if number is None:
            return Where(_NOTHING, ())
        parts.append("platform = ?")
        values.append(number)
    meant = {int(state) for state in states} if states is not None else None
    if wanted.state is not None:
        state = _STATES.get(wanted.state)
        if state is None or (meant is not None and state not in meant):
            return Where(_NOTHING, ())
        meant = {state}
    if meant is not None:
        parts.append(f"state IN ({', '.join(str(state) for state in sorted(meant))})")
    for column, value in (("key_text", wanted.key), ("event", wanted.event), ("reason", wanted.reason)):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if wanted.ids:
        seqs = [seq for seq in (decode_id(text, tag) for text in wanted.ids) if seq is not None]
        parts.append(f"seq IN ({', '.join(map(str, seqs))})")
    if wanted.since is not None:
        parts.append("accepted_at >= ?")
        values.append(wanted.since)
    if wanted.until is not None:
        parts.append("accepted_at < ?")
        values.append(wanted.until)
    return Where(" AND ".join(parts) or "1", tuple(values))
