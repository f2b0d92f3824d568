"""Write the manual: ``relay.1``, and a page per command such as ``relay-dead-retry.1``."""

from pathlib import Path

import click
from click_man.core import write_man_pages
from relay.cli.main import relay


def write_manual(target: Path, version: str) -> None:
    """Write all pages into ``target``. The relay imports a command when it is called; here all of them are at hand."""
    target.mkdir(parents=True, exist_ok=True)
    context = click.Context(relay)
    commands = {name: relay.get_command(context, name) for name in relay.list_commands(context)}
    everything = click.Group("relay", {name: found for name, found in commands.items() if found}, help=relay.help)
    write_man_pages("relay", everything, version=version, target_dir=str(target))
