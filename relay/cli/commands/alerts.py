"""``relay alerts`` and ``relay alert``: what fires, who was told, silences and drills."""

from typing import Any

import click

from relay.cli.main import EXIT_FAILED
from relay.cli.support.client import segment
from relay.cli.support.human import moment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record, print_rows, printable
from relay.core.clock import wall_s

_reason_option = click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")


@click.command()
@place_options
@output_option
def alerts(config: str | None, admin: str | None, output: str) -> None:
    """Show what fires, what ended in the last 7 days, and the targets that do not take messages."""
    answer = locate(config, admin=admin).admin_client().get("/v1/alerts")
    if output != "table":
        print_rows(answer["items"], output=output, columns=())
        return
    now = wall_s()
    for alert in answer["items"]:
        _print_alert(alert, now)
    firing = sum(alert["status"] == "firing" for alert in answer["items"])
    click.echo(f"{firing} firing, {len(answer['items']) - firing} ended in the last 7 days")
    for target in answer["targets"]:
        last = target["last"]
        name = f"{target['name']} ({target['kind']})"
        if last is not None and last["result"] != "ok":
            click.echo(printable(f"{name}: last message {last['result']}: {last['reason']}"))
        if target["waiting"]:
            click.echo(printable(f"{name}: {target['waiting']} messages wait"))
    if not answer["targets"]:
        click.echo("nobody is told: there are no targets under alerts: in the configuration")


def _print_alert(alert: dict[str, Any], now: float) -> None:
    about = f" {alert['platform']}" if alert["platform"] else ""
    click.echo(printable(f"{alert['status']} {alert['rule']}{about}: {alert['summary']}"))
    if alert["status"] != "firing":
        click.echo(f"  until {moment(alert['until'], now=now)}")
        return
    silenced = f"; silenced until {moment(alert['silenced_until'], now=now)}" if alert["silenced_until"] else ""
    click.echo(f"  since {moment(alert['since'], now=now)}{silenced}")
    click.echo(printable(f"  {alert['meaning']}"))
    click.echo(printable(f"  next: {alert['todo']}"))


@click.group()
def alert() -> None:
    """Silence a rule of the alerts, or try a target."""


@alert.command()
@click.argument("rule")
@click.option("--for", "duration", required=True, metavar="TIME", help="How long, such as 2h; 0s ends a silence.")
@_reason_option
@place_options
@output_option
def silence(rule: str, duration: str, reason: str, config: str | None, admin: str | None, output: str) -> None:
    """Tell nobody of RULE for a while. What still fires then is told."""
    body = {"for": duration} | ({"reason": reason} if reason else {})
    answer = locate(config, admin=admin).admin_client().post(f"/v1/alerts/{segment(rule)}/silence", body)
    if output != "table":
        print_record(answer, output=output)
    else:
        click.echo(f"{answer['rule']} is silent until {moment(answer['until'], now=wall_s())}")


@alert.command()
@click.argument("target")
@_reason_option
@place_options
@output_option
def test(target: str, reason: str, config: str | None, admin: str | None, output: str) -> int:
    """Send a drill to TARGET and wait for its answer. The message says that it is a drill.

    Exits 1, with the answer, when it did not arrive.
    """
    client = locate(config, admin=admin).admin_client()
    answer = client.post(f"/v1/alert-targets/{segment(target)}/test", {"reason": reason} if reason else {})
    if output != "table":
        print_record(answer, output=output)
    elif answer["arrived"]:
        click.echo(f"{answer['target']} took the drill (status {answer['status']})")
    else:
        status = "" if answer["status"] is None else f" (status {answer['status']})"
        click.echo(printable(f"{answer['target']} did not take the drill{status}: {answer['reason']}"), err=True)
        if answer["answer"]:
            click.echo(printable(f"  it answered: {answer['answer']}"), err=True)
    return 0 if answer["arrived"] else EXIT_FAILED
