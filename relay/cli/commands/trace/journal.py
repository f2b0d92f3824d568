"""``relay operations``: what people did to many callbacks at once, and what the lists of deeds share."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from relay.cli.commands.callbacks import query_of
from relay.cli.support import human
from relay.cli.support.client import Query
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record, print_rows, to_json
from relay.cli.support.source import open_source
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.views.moments import plain
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditPage

_LARGEST_PAGE = 1000
_ACTIONS = ("retry", "drop", "expire", "resolve", "resend", "forget")

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Page = TypeVar("_Page", AuditPage, OperationPage)


def listed(command: _Command) -> _Command:
    """Give a command the options that both lists share."""
    for option in (
        output_option,
        click.option("--cursor", help="Continue where a -o json answer's 'next' points."),
        click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many."),
        click.option("--until", metavar="WHEN", help="Before: 2h (ago), or 2026-11-22T10:00."),
        click.option("--since", metavar="WHEN", help="At or after: 2h (ago), or 2026-11-22T10:00."),
        click.option("--who", metavar="USER", help="Only what this user did."),
        place_options,
    ):
        command = option(command)
    return command


@click.command()
@click.argument("number", metavar="[ID]", type=click.IntRange(min=1), required=False)
@click.option("--action", type=click.Choice(_ACTIONS), help="Only these.")
@click.option("--state", type=click.Choice(("running", "done")), help="Only those under way, or only those done.")
@click.option("--platform", help="Only those about this platform alone.")
@listed
def operations(
    number: int | None,
    config: str | None,
    admin: str | None,
    limit: int,
    cursor: str | None,
    output: str,
    **wanted: Any,
) -> None:
    """List operations over many callbacks, newest first, or show the one with ID."""
    source = open_source(locate(config, admin=admin))
    if number is not None:
        found = source.operation(number)
        print_record(plain(found) if output != "table" else _facts(found), output=output)
        return
    page = page_of(OperationPage, source.operations, query_of(wanted), limit, cursor)
    now = wall_s()
    rows = [
        {
            "id": each.id,
            "action": each.action,
            "state": each.state,
            "platform": each.filter.platform or "*",
            "matched": each.matched,
            "done": each.done,
            "skipped": sum(each.skipped.values()),
            "started": human.moment(each.started_at, now=now),
            "who": each.options.who or "",
        }
        for each in page.items
    ]
    columns = ("id", "action", "state", "platform", "matched", "done", "skipped", "started", "who")
    show_list(page, rows, columns, output, right=("id", "matched", "done", "skipped"))


def page_of(
    kind: type[_Page], read: Callable[[Query], _Page], query: Mapping[str, Any], limit: int, cursor: str | None
) -> _Page:
    """Return up to ``limit`` items, from as many pages as needed."""
    items: list[Any] = []
    while True:
        asked = {**query, "cursor": cursor, "limit": min(limit - len(items), _LARGEST_PAGE)}
        found = read(asked)
        items += found.items
        cursor = found.next
        if cursor is None or len(items) >= limit:
            return kind(items, cursor)


def show_list(
    page: AuditPage | OperationPage,
    rows: list[dict[str, Any]],
    columns: tuple[str, ...],
    output: str,
    *,
    right: tuple[str, ...],
) -> None:
    """Print a page: as a table of ``rows``, or as its view in JSON."""
    if output == "json":
        click.echo(to_json(plain(page), indent=2))
    elif output == "jsonl":
        print_rows(plain(page.items), output=output, columns=())
    else:
        print_rows(rows, output=output, columns=columns, right=right)
        if page.next:
            click.echo(say("there are more: raise --limit or narrow the filter"), err=True)


def _facts(found: OperationView) -> dict[str, Any]:
    """Return what a person wants to know of an operation, its times in words."""
    now = wall_s()
    started = {"started_at": human.moment(found.started_at, now=now)}
    if found.finished_at is not None:
        started["finished_at"] = human.moment(found.finished_at, now=now)
    return {name: value for name, value in {**plain(found), **started}.items() if value not in (None, [], {})}
