"""``relay status``: one line per platform, and the ledger."""

import sys
import time
from typing import Any

import click

from relay.cli import human
from relay.cli.client import Unreachable
from relay.cli.locate import locate, place_options
from relay.cli.tables import columns, output_option, say_json, say_jsonl
from relay.cli.source import Source, open_source, remote_errors

_HEAD = ("PLATFORM", "STATE", "DUE", "OLDEST", "RETRY", "DEAD", "USED/CAP", "DRAIN")
_CLEAR = "\x1b[H\x1b[2J"  # home, then erase: one write, so that watching does not flicker


@click.command()
@place_options
@output_option
@click.option("--watch", is_flag=True, help="Show it again and again until interrupted.")
@click.option("--interval", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds of --watch.")
@remote_errors
def status(config: str | None, admin: str | None, output: str, watch: bool, interval: float) -> None:
    """Show every platform's state, queue, limit use and drain time, and the ledger."""
    place = locate(config, admin=admin)
    if not watch:
        _show(_read(open_source(place)), output)
        return
    try:
        while True:
            try:
                _show(_read(open_source(place)), output, clear=sys.stdout.isatty())
            except Unreachable as error:  # a restart is what one watches for
                click.echo(str(error), err=True)
            time.sleep(interval)
    except KeyboardInterrupt:
        return


def _read(source: Source) -> dict[str, Any]:
    return {"platforms": source.platforms(), "ledger": source.ledger()}


def _show(found: dict[str, Any], output: str, *, clear: bool = False) -> None:
    if output == "json":
        say_json(found)
    elif output == "jsonl":
        say_jsonl([*found["platforms"], {"ledger": found["ledger"]["total"]}])
    else:
        click.echo((_CLEAR if clear else "") + table(found))


def table(found: dict[str, Any]) -> str:
    """Return the status as text: the platforms, why any of them is not sending, and the ledger."""
    lines = columns([_HEAD, *(_row(platform) for platform in found["platforms"])])
    for platform in found["platforms"]:
        if platform["reason"] and platform["state"] != "limited":  # a limit in use explains itself
            lines.append(f"{platform['name']} {platform['state']}: {platform['reason']}")
    return "\n".join([*lines, ledger_line(found["ledger"]["total"])])


def ledger_line(total: dict[str, int]) -> str:
    """Return the ledger as a sum; ends that nothing came to are left out."""
    parts = [f"{total['delivered']} delivered", f"{total['pending']} queued", f"{total['dead']} dead"]
    parts += [f"{total[end]} {end}" for end in ("expired", "superseded") if total[end]]
    return f"LEDGER   {total['accepted']} in = {' + '.join(parts)} + {total['unaccounted']} unaccounted"


def _row(platform: dict[str, Any]) -> tuple[str, ...]:
    return (
        platform["name"],
        platform["state"],
        str(platform["pending"]),
        human.duration(platform["oldest_due_seconds"]),
        "-" if platform.get("retrying") is None else str(platform["retrying"]),
        str(platform["dead"]),
        _used(platform["quotas"]),
        _drain(platform),
    )


def _used(quotas: list[dict[str, Any]]) -> str:
    """Return the fullest window."""
    if not quotas:
        return "-"
    fullest = max(quotas, key=lambda quota: float(quota["used"]) / quota["limit"])
    return f"{fullest['used']}/{fullest['limit']} {human.window(fullest['window_s'])}"


def _drain(platform: dict[str, Any]) -> str:
    if platform["state"] == "broken" and platform["until"]:
        return f"probe {human.distance(human.parse_instant(platform['until']), now=time.time())}"  # noqa: TID251
    return human.duration(platform["drain_eta_seconds"])
