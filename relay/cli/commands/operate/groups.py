"""Prints groups of failures."""

import click

from relay.cli.support import human
from relay.cli.support.output import print_record, print_rows
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.views.moments import plain
from relay.views.past.survey import GroupPage

_COLUMNS = ("platform", "count", "reason", "code", "last", "since", "sample")


def show_groups(found: GroupPage, output: str) -> None:
    """Print groups, the largest first."""
    if output == "json":
        print_record(plain(found), output=output)
        return
    if output == "jsonl":
        print_rows(plain(found.items), output=output, columns=())
        return
    now = wall_s()
    rows = [
        {
            "platform": group.platform,
            "count": group.count,
            "reason": group.reason,
            "code": group.code,
            "last": human.moment(group.last_seen, now=now),
            "since": human.moment(group.first_seen, now=now),
            "sample": group.sample or "",
        }
        for group in found.items
    ]
    used = [name for name in _COLUMNS if name != "code" or any(row["code"] for row in rows)]
    print_rows(rows, output=output, columns=used, right=("count",))
    if not found.complete:
        click.echo(say("there are more than could be counted: narrow the filter"), err=True)
