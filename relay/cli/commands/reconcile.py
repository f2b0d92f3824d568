"""``relay reconcile``: compare the order center, the relay's own store and a platform, order by order."""

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from relay.admin.filters import parse_time
from relay.cli.main import EXIT_DIFFERENT, EXIT_FAILED
from relay.cli.support.config_file import chosen_file, load_config
from relay.cli.support.locate import WHERE
from relay.cli.support.output import output_option, print_rows, printable, to_json
from relay.config.problems import BadValue
from relay.config.schema.file import Config
from relay.config.schema.reconcile import ExportFile, ReconcileSettings, SideNames, checked_file
from relay.core.clock import wall_s, wall_shift_s
from relay.core.errors import RelayError
from relay.reconcile import ours
from relay.reconcile.job import Comparison, ExportSide
from relay.reconcile.launch import differences

_COLUMNS = ("kind", "key", "why", "order center", "platform", "relay", "proposal")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("platform")
@click.option("-c", "--config", "option", metavar="FILE", help=f"The configuration. Default: {WHERE}.")
@click.option("--since", metavar="T", help="Compare what changed since then: ISO 8601 or an age such as 2d.")
@click.option("--until", metavar="T", help="... and until then. Default: now.")
@click.option("--order-center", metavar="FILE", help="The order center's export, in place of the configured one.")
@click.option("--platform", "shown", metavar="FILE", help="The platform's export, in place of the configured one.")
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
    config = load_config(chosen_file(option))
    settings = config.reconcile.get(platform)
    if settings is None:
        raise RelayError(f"the configuration has no reconcile.{platform}: docs/reconcile.md shows one")
    now = wall_s()
    end = _time("--until", until, now) if until else now
    start = _time("--since", since, now) if since else end - settings.span
    if start >= end:
        raise click.UsageError("--since must lie before --until")
    parent = config.origin.state_directory
    with tempfile.TemporaryDirectory(
        prefix="reconcile-", dir=parent if os.access(parent, os.W_OK) else None
    ) as folder:  # 0700: it holds the orders in plain text
        wanted = _comparison(
            config, platform, settings, window=(start, end), files=(order_center, shown), folder=folder
        )
        unknown = _write_sent(config, platform, settings, wanted.sent_file)
        summary = _printed(_told(differences(wanted), unknown), output)
    if not summary["complete"]:
        raise click.exceptions.Exit(EXIT_FAILED)
    if any(kind != "unsettled" for kind in summary["counts"]):
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _time(option: str, text: str, now: float) -> float:
    try:
        return parse_time(text, now=now)
    except (BadValue, ValueError):
        raise click.UsageError(f"{option} {text}: write ISO 8601 or an age such as 2d") from None


def _comparison(
    config: Config,
    platform: str,
    settings: ReconcileSettings,
    *,
    window: tuple[float, float],
    files: tuple[str | None, str | None],
    folder: str,
) -> Comparison:
    since, until = window
    day = f"{datetime.fromtimestamp(until, ZoneInfo(settings.tz)):%Y-%m-%d}"
    maps, columns = settings.status_map, settings.columns

    def side(export: ExportFile, given: str | None, where: SideNames, words: dict[str, str]) -> ExportSide:
        named = str(config.directory / export.file.replace("{date}", day)) if given is None else _given(given)
        return ExportSide(named, export.encoding, where.key, where.status, where.at, list(where.also), words)

    return Comparison(
        run=f"{datetime.fromtimestamp(wall_s(), UTC):%Y%m%dT%H%M%SZ}",
        platform=platform,
        since=since,
        until=until,
        settle_s=settings.settle,
        keep_s=config.store.keep.delivered,
        tz=settings.tz,
        order=list(settings.order),
        tolerance=settings.tolerance,
        stuck=settings.stuck,
        order_center=side(settings.order_center, files[0], columns.of_order_center(), maps.order_center),
        shown=side(settings.platform, files[1], columns.of_platform(), maps.platform),
        sent_file=str(Path(folder) / "relay.csv"),
        folder=folder,
    )


def _given(file: str) -> str:
    try:
        return checked_file(file)
    except BadValue as bad:
        raise click.UsageError(f"{bad.message}; {bad.hint}") from None


def _write_sent(config: Config, platform: str, settings: ReconcileSettings, file: str) -> int:
    """Write what the relay's store holds of the platform; return how many callbacks tell an unknown status."""
    from relay.daemon.stores import key_source, open_reader  # loads the store's library

    maps, where = settings.status_map, settings.columns.of_relay()
    reader = open_reader(f"sqlite:{config.store_path}", key_source(config))
    try:
        return ours.write(
            reader.sent(platform),
            file,
            key=where.key,
            status=where.status,
            status_map=maps.order_center if maps.relay is None else maps.relay,
            order=settings.order,
            shift_s=wall_shift_s(reader.clock.now(), wall_s()),
        )
    finally:
        reader.close()


def _told(lines: Iterator[dict[str, Any]], unknown: int) -> Iterator[dict[str, Any]]:
    """Add to the summary what the relay's own rows leave open."""
    for line in lines:
        if unknown and "counts" in line:
            text = f"{unknown} callbacks tell a status that status_map does not know; they explain nothing here"
            line["problems"].append({"side": "relay", "place": "the store", "text": text})
        yield line


def _printed(lines: Iterator[dict[str, Any]], output: str) -> dict[str, Any]:
    """Print what was found and return the summary, which is the last line."""
    found: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for line in lines:
        if output == "jsonl":
            click.echo(to_json(line))
        if "counts" in line:
            summary = line
        elif output != "jsonl":
            found.append(line)
    if output == "json":
        click.echo(to_json({**summary, "differences": found}, indent=2))
    if output == "table":
        if found:
            print_rows(map(_row, found), output=output, columns=_COLUMNS)
        for problem in summary["problems"]:
            click.echo(printable(f"{problem['side']}: {problem['place']}: {problem['text']}"), err=True)
        read = summary["read"]
        counted = ", ".join(f"{count} {kind}" for kind, count in summary["counts"].items()) or "nothing differs"
        click.echo(f"read {read['order_center']} and {read['platform']}: {summary['agree']} agree; {counted}")
        if not summary["complete"]:
            click.echo("incomplete: a side was not read whole, so nothing is called missing from it", err=True)
    return summary


def _row(line: dict[str, Any]) -> dict[str, Any]:
    center, shown, sent = line["order_center"], line["platform"], line["relay"]
    return {
        "kind": line["kind"],
        "key": line["key"],
        "why": line["why"],
        "order center": center and center["status"],
        "platform": shown and shown["status"],
        "relay": sent and f"{sent['state']} {sent['id']}",
        "proposal": line["proposal"],
    }
