"""``relay service print``: the systemd units, for this installation."""

import sys
from importlib.resources import files
from pathlib import Path

import click

_PROGRAM = "/opt/relay/bin/relay"  # as the units in the repository have it
_WATCHDOG = "WatchdogSec=20\n"
_WATCHDOG_SHARED = "WatchdogSec=6\nWatchdogSignal=SIGKILL\n"
_UNITS = ("relay.service", "relay.socket")


@click.group()
def service() -> None:
    """Show how systemd runs the relay."""


@service.command("print")
@click.option("--only", "unit", type=click.Choice(_UNITS), help="Print only this one.")
@click.option("--shared", is_flag=True, help="For a host that shares its store: end it when it is frozen.")
def print_units(unit: str | None, shared: bool) -> None:
    """Print relay.service and relay.socket, with the path of this installation's program.

    For example: relay service print --only relay.service > /etc/systemd/system/relay.service

    Hosts that share a store lose their platforms to another one when they are frozen for 16 s. With --shared systemd
    kills such a process after 6 s, so that it cannot wake up later and go on.
    """
    here = Path(sys.executable).parent / "relay"
    program = str(here) if here.is_file() else _PROGRAM
    for name in (unit,) if unit else _UNITS:
        if not unit:
            click.echo(f"# /etc/systemd/system/{name}")
        text = (files(__package__) / name).read_text(encoding="utf-8").replace(_PROGRAM, program)
        click.echo(text.replace(_WATCHDOG, _WATCHDOG_SHARED) if shared else text, nl=not unit)
