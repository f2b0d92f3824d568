"""``relay reconcile``: compare the order center, the relay's own store and a platform, order by order."""

import asyncio
from typing import NamedTuple

import click

from relay.admin.filters import parse_time
from relay.cli.commands.reconciling.asking import asking
from relay.cli.commands.reconciling.printing import Printer
from relay.cli.main import EXIT_DIFFERENT, EXIT_FAILED
from relay.cli.support.config_file import load_config
from relay.cli.support.locate import WHERE, Place, found_file, locate
from relay.cli.support.output import output_option
from relay.config.problems import BadValue
from relay.config.schema.file import Config
from relay.config.schema.reconcile_source import checked_file
from relay.core.clock import wall_s
from relay.core.errors import RelayError
from relay.core.raw import JsonObject
from relay.reconcile.launch import differences
from relay.reconcile.preparing import Exports, Window, comparison
from relay.reconcile.workspace import Workspace


class _Wanted(NamedTuple):
    config: Config
    place: Place
    platform: str
    window: Window
    exports: Exports
    output: str


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("platform")
@click.option("-c", "--config", "option", metavar="FILE", help=f"The configuration. Default: {WHERE}.")
@click.option("--since", metavar="T", help="Compare what changed since then: ISO 8601 or an age such as 2d.")
@click.option("--until", metavar="T", help="... and until then. Default: now.")
@click.option("--order-center", metavar="FILE", help="The order center's export, in place of what is configured.")
@click.option("--platform", "shown", metavar="FILE", help="The platform's export, in place of what is configured.")
@output_option
def reconcile(
    platform: str,
    option: str | None,
    since: str | None,
    until: str | None,
    order_center: str | None,
    shown: str | None,
    output: str,
) -> None:
    """Compare what the order center, the relay and PLATFORM know of the same orders. Nothing is sent or changed.

    Exits with 3 where something differs (`unsettled` aside), with 1 where a side could not be read whole.
    """
    file = option or found_file()
    config = load_config(file)
    settings = config.reconcile.get(platform)
    if settings is None:
        raise RelayError(f"the configuration has no reconcile.{platform}: docs/reconcile.md shows one")
    now = wall_s()
    end = _time("--until", until, now) if until else now
    start = _time("--since", since, now) if since else end - settings.span
    if start >= end:
        raise click.UsageError("--since must lie before --until")
    exports = Exports(_given(order_center), _given(shown))
    wanted = _Wanted(config, locate(file), platform, Window(start, end), exports, output)
    summary = asyncio.run(_compared(wanted))
    if not summary["complete"]:
        raise click.exceptions.Exit(EXIT_FAILED)
    if any(kind != "unsettled" for kind in summary["counts"]):
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _time(option: str, text: str, now: float) -> float:
    try:
        return parse_time(text, now=now)
    except (BadValue, ValueError):
        raise click.UsageError(f"{option} {text}: write ISO 8601 or an age such as 2d") from None


def _given(file: str | None) -> str | None:
    try:
        return None if file is None else checked_file(file)
    except BadValue as bad:
        raise click.UsageError(f"{bad.message}; {bad.hint}") from None


async def _compared(wanted: _Wanted) -> JsonObject:
    """Compare, print what is found as it is found, and return the summary."""
    config, printer = wanted.config, Printer(wanted.output)
    summary: JsonObject = {}
    with Workspace(config.origin.state_directory, wanted.platform) as space:
        job = comparison(
            config, wanted.platform, run=space.run, window=wanted.window, exports=wanted.exports, folder=space.folder
        )
        async with asking(config, wanted.platform, wanted.place) as ask:
            async for line in differences(job, ask):
                if "counts" in line:
                    summary = line
                else:
                    printer.difference(line)
        if summary["complete"]:
            space.hand_on()
    printer.end(summary)
    return summary
