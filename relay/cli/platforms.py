"""``relay pause``, ``resume`` and ``flush``: what an operator does to one platform."""

from typing import Any

import click

from relay.cli.client import Client, segment
from relay.cli.locate import locate, place_options, token
from relay.cli.source import remote_errors
from relay.cli.tables import output_option, say_json, say_jsonl

_reason_option = click.option("--reason", default="", help="Why; kept in the audit record.")


@click.command()
@click.argument("platform")
@_reason_option
@place_options
@output_option
@remote_errors
def pause(**given: Any) -> None:
    """Send nothing more to PLATFORM until it is resumed; its callbacks are kept."""
    _act("pause", **given)


@click.command()
@click.argument("platform")
@_reason_option
@place_options
@output_option
@remote_errors
def resume(**given: Any) -> None:
    """End a pause of PLATFORM."""
    _act("resume", **given)


@click.command()
@click.argument("platform")
@_reason_option
@place_options
@output_option
@remote_errors
def flush(**given: Any) -> None:
    """Send what is queued for PLATFORM without waiting for pace, linger or retry times; its limits still hold."""
    _act("flush", **given)


def _act(action: str, *, platform: str, reason: str, config: str | None, admin: str | None, output: str) -> None:
    client = Client(locate(config, admin=admin).admin, token=token())
    view = client.post(f"/v1/platforms/{segment(platform)}/{action}", {"reason": reason} if reason else {})
    if output == "json":
        say_json(view)
    elif output == "jsonl":
        say_jsonl([view])
    else:
        done = {"pause": "paused", "resume": "resumed", "flush": "flushed"}[action]
        click.echo(f"{view['name']} {done}: {view['pending']} pending, now {view['state']}")
