"""``relay reconcile``: compare the order center, the relay's own store and a platform, order by order; repair."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click

from relay.admin.filters import parse_time
from relay.cli.commands.reconciling.asking import asking
from relay.cli.commands.reconciling.printing import Printer, print_verified
from relay.cli.main import EXIT_DIFFERENT, EXIT_FAILED
from relay.cli.support.client import Client
from relay.cli.support.config_file import load_config
from relay.cli.support.locate import WHERE, Place, found_file, locate
from relay.cli.support.output import output_option
from relay.cli.words.sentences import say
from relay.config.problems import BadValue
from relay.config.schema.file import Config
from relay.config.schema.reconcile_source import checked_file
from relay.core.clock import wall_s
from relay.core.errors import RelayError
from relay.core.raw import JsonObject
from relay.reconcile.conduct import Choice, Finished, WantedRun, masked_by, run
from relay.reconcile.preparing import Exports, Window
from relay.reconcile.repairing import KINDS
from relay.reconcile.report.folder import RunFolder
from relay.reconcile.results import RunSummary
from relay.reconcile.workspace import Workspace

_ALL = sys.maxsize


class _Repairs(NamedTuple):
    """Which differences are to be repaired."""

    kinds: Sequence[str]
    most: int
    yes: bool


class _Wanted(NamedTuple):
    wish: WantedRun
    place: Place
    repairs: _Repairs | None
    verify: str | None
    report: str | None
    output: str


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("platform")
@click.option("-c", "--config", "option", metavar="FILE", help=f"The configuration. Default: {WHERE}.")
@click.option("--since", metavar="T", help="Compare what changed since then: ISO 8601 (in `tz`) or an age such as 2d.")
@click.option("--until", metavar="T", help="... and until then. Default: now.")
@click.option("--order-center", metavar="FILE", help="The order center's export, in place of what is configured.")
@click.option("--platform", "shown", metavar="FILE", help="The platform's export, in place of what is configured.")
@click.option("--repair", is_flag=True, help="Send once more what the platform lost or what died here; asks first.")
@click.option("--kinds", metavar="K,K", help="Repair these kinds only: missing, behind.")
@click.option("--max", "most", metavar="N", type=click.IntRange(min=1), help="Repair at most so many.")
@click.option("--yes", is_flag=True, help="Repair without asking first.")
@click.option("--verify", metavar="RUN", help="Compare, and say what became of what that run repaired.")
@click.option("--report", metavar="DIR", help="Write report.html, differences.csv and run.json there.")
@output_option
def reconcile(
    platform: str,
    option: str | None,
    since: str | None,
    until: str | None,
    order_center: str | None,
    shown: str | None,
    repair: bool,
    kinds: str | None,
    most: int | None,
    yes: bool,
    verify: str | None,
    report: str | None,
    output: str,
) -> None:
    """Compare what the order center, the relay and PLATFORM know of the same orders.

    Nothing is sent or changed without --repair. Exits with 3 where something differs (`unsettled` aside), with 1 where
    a side could not be read whole or the repair was refused.
    """
    if not repair and (kinds is not None or most is not None or yes):
        raise click.UsageError(say("--kinds, --max and --yes go with --repair"))
    if repair and verify is not None:
        raise click.UsageError(say("--repair and --verify exclude each other"))
    if verify is not None and not (verify.isascii() and verify.isalnum()):
        raise click.UsageError(say("--verify {run}: a run has a name such as 20261129T024000000Z", run=verify))
    file = option or found_file()
    config = load_config(file)
    settings = config.reconcile.get(platform)
    if settings is None:
        words = "the configuration has no reconcile.{platform}: docs/reconcile.md shows one"
        raise RelayError(say(words, platform=platform))
    now, zone = wall_s(), ZoneInfo(settings.tz)
    end = _time("--until", until, now, zone) if until else now
    start = _time("--since", since, now, zone) if since else end - settings.span
    if start >= end:
        raise click.UsageError(say("--since must lie before --until"))
    repairs = _Repairs(_kinds(kinds), most or _ALL, yes) if repair else None
    exports = Exports(_given(order_center), _given(shown))
    wish = WantedRun(config, platform, Window(start, end), exports, follow=since is None and until is None)
    finished = asyncio.run(_run(_Wanted(wish, locate(file), repairs, verify, report, output)))
    summary = finished.summary
    if not summary["complete"] or summary.get("repair", {}).get("refused"):
        raise click.exceptions.Exit(EXIT_FAILED)
    if verify is not None:
        differ = any(each["result"] != "repaired" for each in finished.verified)
    else:
        differ = any(kind != "unsettled" for kind in summary["counts"])
    if differ:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _kinds(text: str | None) -> Sequence[str]:
    if text is None:
        return KINDS
    named = [word.strip() for word in text.split(",")]
    for word in named:
        if word not in KINDS:
            raise click.UsageError(f"--kinds {text}: {word!r} cannot be repaired; there are {', '.join(KINDS)}")
    return named


def _time(option: str, text: str, now: float, zone: ZoneInfo) -> float:
    """Return the time that is meant; one without a zone is in that of the comparison, as those of the exports are."""
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=zone).timestamp()
    try:
        return parse_time(text, now=now)
    except (BadValue, ValueError):
        words = "{option} {text}: write ISO 8601 or an age such as 2d"
        raise click.UsageError(say(words, option=option, text=text)) from None


def _given(file: str | None) -> str | None:
    try:
        return None if file is None else checked_file(file)
    except BadValue as bad:
        raise click.UsageError(f"{bad.message}; {bad.hint}") from None


async def _run(wanted: _Wanted) -> Finished:
    """Compare, print what is found as it is found, repair and verify."""
    wish = wanted.wish
    config: Config = wish.config
    printer = Printer(wanted.output, silent=wanted.verify is not None)
    if wanted.repairs is not None:  # whoever cannot repair need not compare first
        await asyncio.to_thread(wanted.place.admin_client().get, "/v1/ledger")
    with Workspace(config.origin.state_directory, wish.platform) as space:
        folders = []
        if wanted.report is not None:
            report = Path(wanted.report)
            _make(report)  # before pages are asked for, for minutes
            folders.append(RunFolder(report, space.run, mask=masked_by(config, wish.platform)))
        async with asking(config, wish.platform, wanted.place) as ask:
            finished = await run(
                wish,
                space,
                ask=ask,
                now=wall_s(),
                found=printer.difference,
                choice=None if wanted.repairs is None else _choice(wanted.repairs, wish.platform, wanted.place),
                verify=wanted.verify,
                folders=folders,
            )
    if wanted.verify is not None:
        print_verified(finished.summary, wanted.verify, finished.verified, wanted.output)
    else:
        printer.end(finished.summary)
    return finished


def _make(report: Path) -> None:
    try:
        report.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=report):
            pass  # it can be written into
    except OSError as error:
        words = "--report {folder}: it cannot be written there: {why}"
        raise RelayError(say(words, folder=report, why=error.strerror or error)) from None


def _choice(repairs: _Repairs, platform: str, place: Place) -> Choice:
    client: Client = place.admin_client()

    async def resend(run_name: str, callbacks: Sequence[str]) -> int:
        body: JsonObject = {
            "action": "resend",
            "filter": {"platform": platform, "ids": list(callbacks)},
            "run": run_name,
            "reason": f"reconcile {run_name}",
        }
        answer = await asyncio.to_thread(client.post, "/v1/operations", body)
        return int(answer["id"])

    def confirm(count: int, summary: RunSummary) -> bool:
        if repairs.yes:
            return True
        counted = ", ".join(f"{number} {kind}" for kind, number in summary["counts"].items())
        words = "found {counted}; {count} of them can be repaired by sending callbacks again"
        click.echo(say(words, counted=counted, count=count), err=True)
        click.echo(say("type {count} to repair them: ", count=count), nl=False, err=True)
        return sys.stdin.readline().strip() == str(count)

    return Choice(repairs.kinds, repairs.most, resend, confirm)
