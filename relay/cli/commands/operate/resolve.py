"""``relay resolve``: say what became of callbacks that are held because nobody recognised the answer."""

import functools
from typing import Any

import click

from relay.cli.commands.callbacks import filter_options
from relay.cli.commands.operate.over_matches import Manner, Order, acting, operate
from relay.cli.words.sentences import say

_VERDICTS = ("delivered", "retry", "dead")


def _selection(command: Any) -> Any:
    """Give a command the options that select what is held."""
    for option in (
        click.option(
            "--held-for",
            "died_of",
            metavar="REASON",
            help="Only those with exactly this reason, as `relay ls` shows it.",
        ),
        click.option("--code", help="Only those whose answer had this code."),
        filter_options,
    ):
        command = option(command)
    return command


@click.command()
@functools.partial(acting, selection=_selection)
@click.option(
    "--as",
    "verdict",
    type=click.Choice(_VERDICTS),
    required=True,
    help="What became of them: the platform has them, they shall be sent again, or they failed for good.",
)
def resolve(order: Order, manner: Manner) -> None:
    """Say what became of held callbacks: those whose answer no rule recognised. They wait until a person knows.

    `relay dead groups --state held` shows them in groups. Name some by ID, or with a filter; for example:
    relay resolve --platform shop-a --as delivered --reason "seen in the seller console"
    """
    if not order.ids and all(value is None for value in order.filters.values()):
        words = "say which: an ID, --platform, --key, --event, --code, --held-for, --since or --until"
        raise click.UsageError(say(words))
    operate("resolve", order, manner)
