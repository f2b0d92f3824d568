"""``relay pause``, ``resume`` and ``flush``: commands about one platform."""

from datetime import datetime
from typing import Any

import click

from relay.cli.support import human
from relay.cli.support.client import segment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record
from relay.cli.support.table import print_wrapped
from relay.cli.words.sentences import say
from relay.core.clock import wall_s

_reason_option = click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")
_group_option = click.option("--group", help="Only this group of it, such as one shop (see `group:` of the platform).")
_key_option = click.option("--key", help="Only this ordering key: one order, with all that still comes of it.")


@click.command()
@click.argument("platform")
@click.option("--for", "duration", metavar="TIME", help="How long, such as 30m. Default: until it is resumed.")
@_group_option
@_key_option
@_reason_option
@place_options
@output_option
def pause(duration: str | None, **given: Any) -> None:
    """Send nothing more to PLATFORM until it is resumed, or for a time. Its callbacks are kept.

    With --for it resumes by itself, also where the relay was restarted meanwhile. Pause it again to change the time.
    """
    _act("pause", {"for": duration} if duration is not None else {}, **given)


@click.command()
@click.argument("platform")
@_group_option
@_key_option
@_reason_option
@place_options
@output_option
def resume(**given: Any) -> None:
    """End a pause of PLATFORM. When it is not paused, end a stop or an open breaker.

    Either way what was refused is due at once instead of at its retry time. Limits still hold, and so does a stop
    after the end of a pause: resume once more to end it.
    """
    _act("resume", {}, **given)


@click.command()
@click.argument("platform")
@_group_option
@_reason_option
@place_options
@output_option
def flush(**given: Any) -> None:
    """Send what is pending for PLATFORM now, without waiting for fuller batches (pace, linger).

    Retry times and limits still hold.
    """
    _act("flush", {}, **given)


def _act(
    action: str,
    body: dict[str, str],
    *,
    platform: str,
    group: str | None,
    key: str | None = None,
    reason: str,
    config: str | None,
    admin: str | None,
    output: str,
) -> None:
    client = locate(config, admin=admin).admin_client()
    body |= {"reason": reason} if reason else {}
    body |= {name: value for name, value in (("group", group), ("key", key)) if value is not None}
    view = client.post(f"/v1/platforms/{segment(platform)}/{action}", body)
    if output != "table":
        print_record(view, output=output)
    else:
        brought = view.get("brought_forward", 0)
        again = say(", {count} of them need not wait for their retry time", count=brought) if brought else ""
        ends = ""
        if action == "pause" and group is None and key is None and view["until"] is not None:
            until = datetime.fromisoformat(view["until"]).timestamp()
            ends = say("; it resumes by itself at {when}", when=human.moment(until, now=wall_s()))
        what = view["name"]
        if group is not None:
            what = say("group {group} of {platform}", group=group, platform=what)
        elif key is not None:
            what = say("key {key} of {platform}", key=key, platform=what)
        told = {"pending": view["pending"], "again": again, "state": view["state"], "ends": ends}
        print_wrapped(say(_DONE[action], what=what, **told))


_DONE = {
    "pause": "{what} paused: {pending} pending{again}, now {state}{ends}",
    "resume": "{what} resumed: {pending} pending{again}, now {state}{ends}",
    "flush": "{what} flushed: {pending} pending{again}, now {state}{ends}",
}
