"""Steps of upkeep over rows of which some lie on damaged pages: those are left out, and the others go on.

A step takes up to 500 rows. Where it meets a damaged page it is made again with half of them, down to one row alone:
that one is left out from then on, and the steps grow again. Where the rows cannot even be found, because a page of
their index is damaged, they are looked for from the other end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apsw

from relay.store.sqlite.file.checksums import as_damaged
from relay.store.sqlite.file.transaction import numbers

STEP_ROWS: Final = 500  # a step holds up claims and settles for a few milliseconds only


class Around:
    """What one duty has met so far: how many rows its next step takes, from which end, and which it leaves out."""

    def __init__(self) -> None:
        self.limit = STEP_ROWS
        self.newest_first = False
        self.stuck = False  # both ends were tried: nothing goes until the next round
        self.cursor = 0  # where the next step goes on, for a duty that leaves rows where they are; 0: at the end
        self._left_out: set[int] = set()

    @property
    def order(self) -> str:
        """The direction in which rows are looked for, as SQL has it."""
        return "DESC" if self.newest_first else "ASC"

    @property
    def left_out(self) -> Any:
        """The rows to leave out, as a bound table; no row has the number 0."""
        return numbers(self._left_out or (0,))

    def begin(self) -> None:
        """Begin another round: what was in the way may have gone."""
        self.stuck = False

    def went(self) -> None:
        """Note a step that was done."""
        self.limit = min(STEP_ROWS, self.limit * 2)

    def met(self, rows: Sequence[int]) -> None:
        """Note a step that met a damaged page with ``rows``; without any where it could not find them."""
        if len(rows) == 1:
            self._left_out.update(rows)
        elif self.limit > 1:
            self.limit = (len(rows) or self.limit) // 2
        else:
            self.newest_first, self.stuck, self.cursor = not self.newest_first, self.newest_first, 0


class AroundNothing(Around):
    """Of what has no rows to leave out: damage ends it for this round."""

    def met(self, rows: Sequence[int]) -> None:
        """Try no more."""
        self.stuck = True


@contextmanager
def naming(rows: Sequence[int]) -> Iterator[None]:
    """Have an error that tells of damage name the rows that were worked on."""
    try:
        yield
    except apsw.Error as error:
        raise as_damaged(error, rows) or error from error
