"""``relay pause``, ``resume`` and ``flush``: commands about one platform."""

from typing import Any

import click

from relay.cli.support.client import segment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record

_reason_option = click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")


@click.command()
@click.argument("platform")
@_reason_option
@place_options
@output_option
def pause(**given: Any) -> None:
    """Send nothing more to PLATFORM until it is resumed. Its callbacks are kept."""
    _act("pause", **given)


@click.command()
@click.argument("platform")
@_reason_option
@place_options
@output_option
def resume(**given: Any) -> None:
    """End a pause of PLATFORM. When it is not paused, end a stop or an open breaker.

    Either way what was refused is due at once instead of at its retry time. Limits still hold, and so does a stop
    after the end of a pause: resume once more to end it.
    """
    _act("resume", **given)


@click.command()
@click.argument("platform")
@_reason_option
@place_options
@output_option
def flush(**given: Any) -> None:
    """Send what is pending for PLATFORM now, without waiting for fuller batches (pace, linger).

    Retry times and limits still hold.
    """
    _act("flush", **given)


def _act(action: str, *, platform: str, reason: str, config: str | None, admin: str | None, output: str) -> None:
    client = locate(config, admin=admin).admin_client()
    view = client.post(f"/v1/platforms/{segment(platform)}/{action}", {"reason": reason} if reason else {})
    if output != "table":
        print_record(view, output=output)
    else:
        done = {"pause": "paused", "resume": "resumed", "flush": "flushed"}[action]
        brought = view.get("brought_forward", 0)
        again = f", {brought} of them need not wait for their retry time" if brought else ""
        click.echo(f"{view['name']} {done}: {view['pending']} pending{again}, now {view['state']}")
