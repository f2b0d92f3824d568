"""Tells on standard error how far a long simulation has come."""

import click

from relay.cli.support.human import duration
from relay.core.clock import elapsed_s
from relay.simulate.record import Record

_EVERY_S = 0.5


class Watched(Record):
    """A record that says where the virtual time is; ``for_s`` is how long callbacks come in."""

    def __init__(self, file: str, for_s: float) -> None:
        super().__init__()
        self._file = file
        self._for_s = for_s
        self._told_s = elapsed_s()

    def level(self, at_s: float, *, pending: int, waiting: int) -> None:
        """Note the backlog, and say twice a second where the run is."""
        super().level(at_s, pending=pending, waiting=waiting)
        if elapsed_s() - self._told_s > _EVERY_S:
            self._told_s = elapsed_s()
            after = f"{duration(at_s)} of {duration(self._for_s)}, {pending:,} pending"
            click.echo(f"\r{self._file}: {after:<40}", err=True, nl=False)
