"""``relay keys``: the keys that the store is sealed with, and the destruction of a person's data."""

import asyncio
import os
import sys
import time
from typing import Any

import click
from msgspec import UNSET

from relay.cli.support.client import Unreachable
from relay.cli.support.config_file import load_config
from relay.cli.support.locate import DESTROYING, Place, found_file, locate, place_options
from relay.cli.support.output import output_option, print_record
from relay.cli.words.sentences import say
from relay.core.clock import elapsed_s
from relay.core.plural import count
from relay.core.raw import JsonObject
from relay.sealing.master_keys import new_key
from relay.views.moments import plain
from relay.views.operation_view import OperationView
from relay.views.sealing_view import KeysRotated, KeysView

_POLL_S = 0.1
_MOST_S = 60.0  # a request under way has ended by then, unless its platform has a very long timeout


@click.group()
def keys() -> None:
    """Make and rotate the keys that the store is sealed with; destroy a person's data."""


@keys.command()
def new() -> None:
    """Print a new key for privacy.encrypt.key: 32 random bytes in base64. Keep it where the backups are not."""
    click.echo(new_key())


@keys.command()
@place_options
@output_option
def status(config: str | None, admin: str | None, output: str) -> None:
    """Show what the store is sealed with, and how far the sealing of what was there before has come."""
    place = locate(config, admin=admin)
    try:
        found = place.admin_client().view(KeysView, "/v1/keys")
    except Unreachable as error:
        found = _read(_with_store(place, error))
    if output != "table":
        print_record(plain(found), output=output)
        return
    for line in _told(found):
        click.echo(line)


def _with_store(place: Place, unreachable: Unreachable) -> Place:
    """Return the place if its store is there, to be worked on without the daemon."""
    if place.store is None or not os.path.exists(place.store.removeprefix("sqlite:")):
        raise unreachable
    return place


def _read(place: Place) -> KeysView:
    from relay.daemon.stores import given_keys, open_reader  # loads the store's library

    reader = open_reader(place.store or "", given_keys(place.keys))
    try:
        return reader.keys()
    finally:
        reader.close()


def _told(found: KeysView) -> list[str]:
    if found.state == "off":
        return [say("the store is not sealed: set privacy.encrypt.key (relay keys new prints one)")]
    held = count(found.data_keys, "data key")
    lines = [say("{state}: {data_keys}", state=found.state, data_keys=held, n=found.data_keys)]
    if found.state == "sealing":
        words = ", {callbacks} still to be sealed, {done} done"
        left = count(found.to_seal, "callback")
        lines[0] += say(words, callbacks=left, n=found.to_seal, done=found.sealed)
    for key in found.keys:
        words = "{key}  in force, wraps {data_keys}" if key.in_force else "{key}  former, wraps {data_keys}"
        may_go = "" if key.in_force or key.data_keys else say(": may be taken out of privacy.encrypt.previous")
        wraps = count(key.data_keys, "data key")
        lines.append(say(words, key=key.id, data_keys=wraps, n=key.data_keys) + may_go)
    return lines


@keys.command()
@click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")
@place_options
@output_option
def rotate(reason: str, config: str | None, admin: str | None, output: str) -> None:
    """Wrap all data keys with privacy.encrypt.key. It takes a moment: no callback is rewritten.

    The order: the new key in `key`, the old one in `previous`, reload, rotate; then `previous` may go.
    """
    place = locate(config, admin=admin)
    client = place.admin_client()
    try:
        done = client.viewed(KeysRotated, client.post("/v1/keys/rotate", {"reason": reason} if reason else {}))
    except Unreachable as error:
        _with_store(place, error)
        from relay.cli.support import offline  # loads the daemon's libraries

        done = asyncio.run(offline.rotate(load_config(config or found_file()), reason=reason))
    if output != "table":
        print_record(plain(done), output=output)
    else:
        wrapped = count(done.data_keys, "data key")
        click.echo(say("{data_keys} wrapped with {key} now", data_keys=wrapped, n=done.data_keys, key=done.key))


@keys.command()
@click.option("--key", metavar="ORDER", help="The ordering key whose data is destroyed.")
@click.option("--before", metavar="DATE", help="Destroy what was accepted before: 2026-11-01, or 30d (ago).")
@click.option("--platform", help="Only what was for this platform.")
@click.option("--reason", required=True, help="Why. It is kept in the audit record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@place_options
@output_option
def forget(
    key: str | None,
    before: str | None,
    platform: str | None,
    reason: str,
    yes: bool,
    config: str | None,
    admin: str | None,
    output: str,
) -> None:
    """Destroy payloads, ordering keys, platforms' words and excerpts of an order, or of everything older than a date.

    They are gone from the store, its write-ahead log, history files and later backups; states and totals stay. What is
    pending ends dead, reason `forgotten`; what is in a request under way follows after it.
    """
    if (key is None) == (before is None):
        raise click.UsageError(say("say either --key or --before"))
    if sys.stdin.isatty() and not yes and not click.confirm(say("This cannot be undone. Destroy it?"), err=True):
        raise SystemExit(1)
    asked: dict[str, Any] = {"key": key, "before": before, "platform": platform}
    given: JsonObject = {name: value for name, value in asked.items() if value is not None}
    place = locate(config, admin=admin, roles=DESTROYING)
    client = place.admin_client()
    try:
        done = client.viewed(OperationView, client.post("/v1/keys/forget", {**given, "reason": reason}))
        until_s = elapsed_s() + _MOST_S
        while done.finished_at is None and elapsed_s() < until_s:
            time.sleep(_POLL_S)
            done = client.view(OperationView, f"/v1/operations/{done.id}")
    except Unreachable as error:
        _with_store(place, error)
        from relay.cli.support import offline  # loads the daemon's libraries

        if before is not None:
            given["until"] = given.pop("before")
        done = asyncio.run(offline.forget(load_config(config or found_file()), given, reason=reason))
    if output != "table":
        print_record(plain(done), output=output)
        return
    words = "operation {id}: {done} of {all} callbacks forgotten"
    click.echo(say(words, id=done.id, done=done.done, all=done.matched))
    if done.history is not UNSET:
        words = "and {callbacks} in history files so far; a host forgets in its own within a minute"
        click.echo(say(words, callbacks=count(done.history, "callback"), n=done.history))
    if done.finished_at is None:
        words = "{count} are in a request under way or frozen for one, and follow after it"
        click.echo(say(words, count=done.waiting), err=True)
