"""``relay service print``: the systemd units, for this installation."""

import sys
from importlib.resources import files
from pathlib import Path

import click

_PROGRAM = "/opt/relay/bin/relay"  # as the units in the repository have it
_UNITS = ("relay.service", "relay.socket")


@click.group()
def service() -> None:
    """Show how systemd runs the relay."""


@service.command("print")
@click.option("--only", "unit", type=click.Choice(_UNITS), help="Print only this one.")
def print_units(unit: str | None) -> None:
    """Print relay.service and relay.socket, with the path of this installation's program.

    For example: relay service print --only relay.service > /etc/systemd/system/relay.service
    """
    here = Path(sys.executable).parent / "relay"
    program = str(here) if here.is_file() else _PROGRAM
    for name in (unit,) if unit else _UNITS:
        if not unit:
            click.echo(f"# /etc/systemd/system/{name}")
        click.echo((files(__package__) / name).read_text(encoding="utf-8").replace(_PROGRAM, program), nl=not unit)
