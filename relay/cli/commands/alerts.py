"""``relay alerts`` and ``relay alert``: what fires, who was told, silences and drills."""

import click

from relay.cli.main import EXIT_FAILED
from relay.cli.support.client import segment
from relay.cli.support.human import moment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record, print_rows, printable
from relay.cli.support.table import print_wrapped
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.views.alerts import AlertPage, AlertView, DrillView, SilenceView, TargetView

_reason_option = click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")


@click.command()
@place_options
@output_option
def alerts(config: str | None, admin: str | None, output: str) -> None:
    """Show what fires, what ended in the last 7 days, and the targets that do not take messages."""
    client = locate(config, admin=admin).admin_client()
    answer = client.get("/v1/alerts")
    page = client.viewed(AlertPage, answer)
    if output != "table":
        print_rows(answer["items"], output=output, columns=())
        return
    now = wall_s()
    for shown in page.items:
        for line in _told(shown, now):
            print_wrapped(printable(line), indent=4)
    firing = sum(shown.status == "firing" for shown in page.items)
    words = "{firing} firing, {ended} ended in the last 7 days"
    click.echo(say(words, firing=firing, ended=len(page.items) - firing))
    for target in page.targets:
        for line in _trouble(target):
            print_wrapped(printable(line), indent=4)
    if not page.targets:
        click.echo(say("nobody is told: there are no targets under alerts: in the configuration"))


def _told(shown: AlertView, now: float) -> list[str]:
    about = f" {shown.platform}" if shown.platform else ""
    first = f"{shown.status} {shown.rule}{about}: {shown.summary}"
    began = moment(shown.since, now=now)
    if shown.status != "firing":
        return [first, say("  from {began} to {ended}", began=began, ended=moment(shown.until, now=now))]
    silence = shown.silenced_until
    silenced = "" if silence is None else say("; silenced until {when}", when=moment(silence, now=now))
    since = say("  since {when}{silenced}", when=began, silenced=silenced)
    return [first, since, f"  {shown.meaning}", say("  next: {todo}", todo=shown.todo)]


def _trouble(target: TargetView) -> list[str]:
    name = f"{target.name} ({target.kind})"
    last, lines = target.last, []
    if last is not None and last.result != "ok":
        words = "{name}: last message {result}: {reason}"
        lines.append(say(words, name=name, result=last.result, reason=last.reason))
    if target.waiting:
        lines.append(say("{name}: {count} messages wait", name=name, count=target.waiting))
    return lines


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
    client = locate(config, admin=admin).admin_client()
    body = {"for": duration} | ({"reason": reason} if reason else {})
    answer = client.post(f"/v1/alerts/{segment(rule)}/silence", body)
    if output != "table":
        print_record(answer, output=output)
        return
    silenced = client.viewed(SilenceView, answer)
    words = "{rule} is silent until {when}"
    click.echo(say(words, rule=silenced.rule, when=moment(silenced.until, now=wall_s())))


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
    drill = client.viewed(DrillView, answer)
    if output != "table":
        print_record(answer, output=output)
    elif drill.arrived:
        click.echo(say("{target} took the drill (status {status})", target=drill.target, status=drill.status))
    else:
        status = "" if drill.status is None else say(" (status {status})", status=drill.status)
        words = "{target} did not take the drill{status}: {reason}"
        click.echo(printable(say(words, target=drill.target, status=status, reason=drill.reason)), err=True)
        if drill.answer:
            click.echo(printable(say("  it answered: {answer}", answer=drill.answer)), err=True)
    return 0 if drill.arrived else EXIT_FAILED
