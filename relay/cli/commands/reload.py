"""``relay reload``: put the configuration file on disk in force."""

import click

from relay.cli.support.client import Refused
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record, printable
from relay.cli.words.sentences import say
from relay.core.plural import count
from relay.views.configuration import ReloadView
from relay.views.moments import plain


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--force", is_flag=True, help="Also remove platforms for which callbacks wait.")
@click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")
@click.option("--wait", is_flag=True, help="Wait for the outcome as long as it takes. Without it: 30 s at most.")
@place_options
@output_option
def reload(
    dry_run: bool, force: bool, reason: str, wait: bool, config: str | None, admin: str | None, output: str
) -> None:
    """Check the daemon's configuration file and put it in force. A file with mistakes changes nothing."""
    client = locate(config, admin=admin).admin_client(waits=wait)
    try:
        answer = client.post(
            "/v1/config/reload", {"dry_run": dry_run, "force": force} | ({"reason": reason} if reason else {})
        )
    except Refused as refused:
        for problem in refused.problem.get("problems", ()):
            click.echo(printable(problem), err=True)
        raise
    result = client.viewed(ReloadView, answer)
    if output != "table":
        print_record(plain(result), output=output)
        return
    from relay.config.changes import in_words  # loads the configuration's libraries, needed only for a table

    lines = in_words(result)
    for line in lines:
        click.echo(printable(line))
    done = "" if result.applied else say("; nothing was done")
    click.echo(say("{changes}{done}", changes=count(len(lines), "change"), n=len(lines), done=done))
