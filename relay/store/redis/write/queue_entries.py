"""Heads of keys as the server shows them: entries of the queue, in columns for a claim."""

from collections.abc import Sequence

from relay.core.model import Lane
from relay.policy.batching import Packer

DueRow = tuple[bytes, int, float]
"""An entry (``seq:bytes:hash[:points]``), its bytes, and since when it is due."""


def head_columns(lane: int, members: Sequence[bytes]) -> tuple[int, list[str], list[int], list[str]]:
    """Return the heads of a lane as the claim takes them: members, sequence numbers and hashes of keys."""
    texts = [member.decode() for member in members]
    parts = [text.split(":") for text in texts]
    return lane, texts, [int(part[0]) for part in parts], [part[2] for part in parts]


def due_rows(found: Sequence[bytes]) -> list[DueRow]:
    """Return the entries of a lane that are due, given with their times."""
    rows: list[DueRow] = []
    for member, due in zip(found[::2], found[1::2], strict=True):
        rows.append((member, int(member.split(b":", 2)[1]), float(due)))
    return rows


def rows_that_fit(packer: Packer, rows: Sequence[DueRow]) -> list[DueRow]:
    """Return the rows, from the first on, that the packer takes."""
    taken: list[DueRow] = []
    for row in rows:
        if packer.full or not packer.offer(row[1]):
            break
        taken.append(row)
    return taken


def first_rows(packed: Sequence[tuple[Lane, list[DueRow]]], count: int) -> list[tuple[Lane, list[DueRow]]]:
    """Return the first ``count`` of what was packed."""
    kept: list[tuple[Lane, list[DueRow]]] = []
    for lane, rows in packed:
        kept.append((lane, rows[:count]))
        count -= len(kept[-1][1])
    return kept
