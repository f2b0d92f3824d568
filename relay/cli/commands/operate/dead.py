"""``relay dead``: list the dead letters, send them again, or drop them."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli.commands.callbacks import filter_options, ids_option, page, query_of, show_page
from relay.cli.commands.operate.groups import show_groups
from relay.cli.commands.operate.over_matches import Manner, Order, acting, filter_of, operate
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option
from relay.cli.support.source import open_source

_DEAD_STATES = ("dead", "expired")
_GROUPED = (*_DEAD_STATES, "held")

_LOOKED_FOR = ("--died-of", "--reason")  # of what acts, --reason is why a person does it

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def dead() -> None:
    """Work on dead letters: callbacks that will not be tried again without you."""


_REASON = "Only those with exactly this reason, as `relay dead ls` shows it."


def _selection(command: _Command, *, reason: tuple[str, ...] = ("--died-of",)) -> _Command:
    """Give a command the options that select dead letters; ``reason`` are the names of the one about their reason."""
    for option in (
        click.option(
            "--state", type=click.Choice(_DEAD_STATES), default="dead", show_default=True, help="In this state."
        ),
        click.option(*reason, "died_of", metavar="REASON", help=_REASON),
        click.option("--code", help="Only those whose answer had this code, as `relay dead groups` shows it."),
        filter_options,
    ):
        command = option(command)
    return command


@dead.command()
@place_options
@functools.partial(_selection, reason=_LOOKED_FOR)
@ids_option
@click.option(
    "--dropped",
    is_flag=True,
    help="List those that were dropped instead: their payload is deleted, the rest is kept for audit.",
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", help="Continue where a -o json answer's 'next' points.")
@output_option
def ls(
    config: str | None,
    admin: str | None,
    dropped: bool,
    limit: int,
    cursor: str | None,
    output: str,
    **wanted: Any,
) -> None:
    """List dead letters, newest first."""
    query = {**filter_of((), **wanted), **({"dropped": "1"} if dropped else {})}
    show_page(page(open_source(locate(config, admin=admin)), query, limit=limit, cursor=cursor), output)


@dead.command()
@place_options
@click.option("--state", type=click.Choice(_GROUPED), default="dead", show_default=True, help="In this state.")
@click.option(*_LOOKED_FOR, "reason", metavar="REASON", help=_REASON)
@click.option("--code", help="Only those whose answer had this code.")
@filter_options
@output_option
def groups(config: str | None, admin: str | None, output: str, **wanted: Any) -> None:
    """Group dead letters, or what is held, by reason and code: a hundred may be one trouble.

    `relay dead retry --died-of REASON --code CODE` acts on a group.
    """
    show_groups(open_source(locate(config, admin=admin)).groups(query_of(wanted)), output)


@dead.command()
@functools.partial(acting, selection=_selection)
@click.option("--reorder", is_flag=True, help="Send also those that a newer callback of their key has overtaken.")
def retry(order: Order, manner: Manner) -> None:
    """Send the matching dead letters again, under the platform's limits, each with a fresh budget."""
    operate("retry", order, manner)


@dead.command()
@functools.partial(acting, selection=_selection)
def drop(order: Order, manner: Manner) -> None:
    """Delete the payloads of the matching dead letters. They stay in the ledger."""
    operate("drop", order, manner)
