"""``relay run-limited``: take a slot, run a command that sends one request, release the slot."""

import subprocess
import time

import click

from relay.cli.main import ExitWith
from relay.cli.support.client import Client, Refused, segment
from relay.cli.support.locate import locate, place_options
from relay.cli.words.sentences import say
from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration
from relay.core.clock import monotonic_s
from relay.core.raw import JsonObject

_LONGEST_S = 60.0  # that one request waits
_BEYOND_S = 30.0
_NOT_FOUND = 127  # as a shell says it


@click.command("run-limited")
@click.argument("quota")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--wait", metavar="DURATION", default="60s", show_default=True, help="How long to wait for a slot.")
@click.option("--group", help="Whose limits, where they are kept per group.")
@click.option(
    "--ingest", metavar="URL", help="Ingest listener: host:port, unix:/path or http://host:port. Wins over -c."
)
@place_options
def run_limited(
    quota: str,
    command: tuple[str, ...],
    wait: str,
    group: str | None,
    ingest: str | None,
    config: str | None,
    admin: str | None,
) -> int:
    """Run COMMAND, which sends one request, under the limits of QUOTA: a shared quota, or a platform.

    It waits for a slot, runs the command and releases the slot. The exit code is the command's; 1 without a slot.

    \b
    relay run-limited shop-a -- curl https://api.shop-a.example/orders
    """
    try:
        wait_s = parse_duration(wait)
    except BadValue as bad:
        raise click.UsageError(say("--wait: {why}; write 30s or 5m", why=bad.message)) from None
    place = locate(config, admin=admin, ingest=ingest, post_to=quota)
    client = place.ingest_client(timeout_s=_LONGEST_S + _BEYOND_S)
    path = f"/v1/quotas/{segment(quota)}"
    slots = _take(client, path, wait_s, {} if group is None else {"group": group})
    try:
        ended = subprocess.run(command, check=False).returncode  # noqa: S603 - it is what the user typed
    except OSError as error:
        client.post(f"{path}/release", {"slots": slots, "unused": True})
        words = "{command} cannot be run: {why}"
        raise ExitWith(_NOT_FOUND, say(words, command=command[0], why=error.strerror)) from None
    except KeyboardInterrupt:
        client.post(f"{path}/release", {"slots": slots})
        raise
    client.post(f"{path}/release", {"slots": slots})
    return ended if ended >= 0 else 128 - ended


def _take(client: Client, path: str, wait_s: float, given: JsonObject) -> list[str]:
    """Take one slot, asking again while the wait is not over. Raises ``Refused`` without one."""
    deadline = monotonic_s() + wait_s
    while True:
        left_s = max(0.0, min(deadline - monotonic_s(), _LONGEST_S))
        try:
            taken: list[str] = client.post(f"{path}/take", {**given, "wait": f"{int(left_s * 1000)}ms"})["slots"]
        except Refused as refused:
            if refused.code != "no_slot" or monotonic_s() >= deadline:
                raise
            time.sleep(min(1.0, max(0.0, deadline - monotonic_s())))
        else:
            return taken
