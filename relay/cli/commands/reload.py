"""``relay reload``: put the configuration file on disk in force."""

import click

from relay.cli.support import human
from relay.cli.support.client import Refused
from relay.cli.support.config_file import chosen_file, other_file
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record, printable
from relay.cli.support.table import print_wrapped
from relay.cli.words.sentences import say
from relay.core.plural import count
from relay.views.configuration import ConfigView, ReloadView
from relay.views.moments import plain
from relay.views.platform import PlatformPage


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would change, and how long what waits would take then.")
@click.option("--force", is_flag=True, help="Also remove platforms for which callbacks wait.")
@click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")
@click.option("--wait", is_flag=True, help="Wait for the outcome as long as it takes. Without it: 30 s at most.")
@place_options
@output_option
def reload(
    dry_run: bool, force: bool, reason: str, wait: bool, config: str | None, admin: str | None, output: str
) -> None:
    """Check the daemon's configuration file and put it in force. A file with mistakes changes nothing."""
    place = locate(config, admin=admin)
    client = place.admin_client(waits=wait)
    try:
        answer = client.post(
            "/v1/config/reload", {"dry_run": dry_run, "force": force} | ({"reason": reason} if reason else {})
        )
    except Refused as refused:
        for problem in refused.problem.get("problems", ()):
            click.echo(printable(problem), err=True)
        raise
    result = client.viewed(ReloadView, answer)
    in_force = client.view(ConfigView, "/v1/config")
    if (config or not admin) and other_file(in_force.file, mine := chosen_file(config)):
        words = "the daemon at {address} has {file}, and so read that: {mine} is another file"
        click.echo(say(words, address=place.admin, file=in_force.file, mine=mine), err=True)
    if output != "table":
        print_record(plain(result), output=output)
        return
    from relay.config.changes import in_words  # loads the configuration's libraries, needed only for a table

    lines = in_words(result)
    for line in lines:
        click.echo(printable(line))
    if not result.applied and result.changes:
        from relay.admin.standing.after_change import effects  # as above

        for found in effects(result, client.view(PlatformPage, "/v1/platforms").items, in_force.config):
            before, after = _about(found.now_s), _about(found.then_s)
            words = "{name}: its {waiting} pending are sent in about {after} in place of {before}, if nothing new comes"
            print_wrapped(say(words, name=found.platform, waiting=found.waiting, after=after, before=before))
    done = "" if result.applied else say("; nothing was done")
    click.echo(say("{changes}{done}", changes=count(len(lines), "change"), n=len(lines), done=done))


def _about(seconds: float | None) -> str:
    return say("no time that a limit sets") if seconds is None else human.duration(seconds)
