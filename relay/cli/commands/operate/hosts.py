"""``relay hosts``: the hosts that share the store, who sends for what, and handing platforms over."""

from typing import Any

import click
from msgspec import UNSET

from relay.cli.support import human
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import Row, output_option, print_rows
from relay.cli.support.table import print_wrapped
from relay.cli.words.daemon_words import heard
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.core.plural import count
from relay.views.hosts import HandedOver, HostPage, HostView
from relay.views.moments import plain

_COLUMNS = ("host", "state", "heard", "spooled", "history", "version", "platforms")
_MOST_NAMES = 36  # of 80 columns; "history" takes nine of them where it is shown
_HISTORY_WIDTH = 9


@click.group(invoke_without_command=True)
@place_options
@output_option
@click.pass_context
def hosts(context: click.Context, config: str | None, admin: str | None, output: str) -> None:
    """Show the hosts that share the store, and which platforms each sends for.

    Every host accepts and shows everything; each platform is sent to by one of them. Without a shared store there is
    one host, and this says so.

    \b
    relay hosts                   who is there, and who sends for what
    relay hosts release           hand over all that this host sends for, before a restart of the machine
    relay hosts release shop-a    hand over one platform, and those that share a quota with it
    """
    if context.invoked_subcommand is not None:
        return
    page = locate(config, admin=admin).admin_client().view(HostPage, "/v1/hosts")
    if output != "table":
        print_rows(plain(page.items), output=output, columns=_COLUMNS)
        return
    if page.reason is not UNSET:
        print_wrapped(heard(page.reason))
        return
    kept = any(host.history is not None for host in page.items)
    columns = [name for name in _COLUMNS if name != "history" or kept]
    rows = [_row(host, wall_s()) for host in page.items]
    print_rows(rows, output=output, columns=columns, right=("spooled", "history"))
    for host in page.items:
        if host.state == "mismatch":
            words = (
                "{name} only accepts: its file ({digest}) is not the one in force ({force}, published by {by}); make "
                "the files the same and run relay reload there"
            )
            print_wrapped(say(words, name=host.name, digest=host.digest, force=page.digest, by=page.published_by))
        if host.set_aside:
            words = (
                "{name}: {posts} of its spool cannot be brought into the store, and stay there; the log there names "
                "them (spool_set_aside), and the order center posts them again"
            )
            print_wrapped(say(words, name=host.name, posts=count(host.set_aside, "post"), n=host.set_aside))
    if page.unowned:
        words = "no host sends for {names} now; one does within 20 s if its file agrees"
        print_wrapped(say(words, names=", ".join(page.unowned)))


@hosts.command()
@click.argument("platform", required=False)
@click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")
@place_options
@output_option
def release(platform: str | None, reason: str, config: str | None, admin: str | None, output: str) -> None:
    """Hand PLATFORM over to another host; without it, all that the host that is asked sends for.

    What is on the wire is finished first. For 5 min the host does not take back what it released, unless no other
    host would have it.
    """
    client = locate(config, admin=admin).admin_client()
    body: dict[str, Any] = {key: value for key, value in (("platform", platform), ("reason", reason)) if value}
    given = client.viewed(HandedOver, client.post("/v1/hosts/release", body))
    rows: list[Row] = [{"platform": name, "to": host} for name, host in given.platforms.items()]
    print_rows(rows, output=output, columns=("platform", "to"))


def _row(host: HostView, now: float) -> Row:
    names = ", ".join(host.platforms)
    most = _MOST_NAMES if host.history is None else _MOST_NAMES - _HISTORY_WIDTH
    if len(names) > most:
        names = f"{len(host.platforms)}: {names[: most - 5]}..."
    return {
        "host": host.name,
        "state": host.state,
        "heard": "" if host.heard_at is None else human.duration(max(0.0, now - host.heard_at)),
        "spooled": host.spooled,
        "history": "-" if host.history is None else host.history,
        "version": host.version,
        "platforms": names or "-",
    }
