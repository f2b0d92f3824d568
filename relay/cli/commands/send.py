"""``relay send``: hand a callback (or many) to the relay, as the order center would."""

import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from relay.cli.support import human
from relay.cli.support.client import segment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record
from relay.cli.support.progress import Move, bar
from relay.cli.words.sentences import say

_LARGE = 1 << 20  # bytes; sending more takes long enough for a bar
_PIECE = 1 << 18


@click.command()
@click.argument("platform")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--key", help="Ordering key, usually the order id.")
@click.option("--event", help="Event name, such as order.paid.")
@click.option("--priority", type=click.Choice(("high", "normal", "low")), help="Default: normal.")
@click.option(
    "--expires", metavar="DURATION", help="Not delivered after this time, it expires: 30m. Default: the platform's."
)
@click.option("--idempotency-key", help="Several posts with the same one and the same body are accepted as one.")
@click.option("--not-before", metavar="WHEN", help="Do not send it earlier: 30m, or 2026-11-30T08:00:00+08:00.")
@click.option("--reference", help="A text of yours that comes back in the receipt.")
@click.option(
    "--ndjson", is_flag=True, help="FILE holds many callbacks, one JSON value per line. All are accepted, or none."
)
@click.option("--content-type", help="Default: application/json when the payload is JSON, else octet-stream.")
@click.option(
    "--ingest", metavar="URL", help="Ingest listener: host:port, unix:/path or http://host:port. Wins over -c."
)
@place_options
@output_option
def send(
    platform: str, file: Any, config: str | None, admin: str | None, ingest: str | None, output: str, **given: Any
) -> None:
    """Post the callback in FILE (or stdin) to PLATFORM and print its id once it is on disk."""
    if file.isatty():
        click.echo(say("reading the payload from the terminal; end it with Ctrl-D"), err=True)
    payload = file.read()
    headers = _headers(payload, **given)
    client = locate(config, admin=admin, ingest=ingest, post_to=platform).ingest_client()
    post = partial(client.send, "POST", f"/v1/platforms/{segment(platform)}/callbacks")
    if sys.stderr.isatty() and len(payload) > _LARGE:
        with bar(say("sending to {platform}", platform=platform), len(payload)) as move:
            answer = post(_pieces(payload, move), headers, size=len(payload))
    else:
        answer = post(payload, headers, size=len(payload))
    if output != "table":
        print_record(answer, output=output)
    elif "ids" in answer:
        for callback_id in answer["ids"]:
            click.echo(callback_id)
        words = "{accepted} accepted, {duplicates} duplicates"
        click.echo(say(words, accepted=answer["accepted"], duplicates=answer["duplicates"]), err=True)
    else:
        click.echo(answer["id"])


def _pieces(payload: bytes, move: Move) -> Iterator[bytes]:
    """Yield the payload in pieces; after each, move the bar."""
    for start in range(0, len(payload), _PIECE):
        yield payload[start : start + _PIECE]
        sent = min(start + _PIECE, len(payload))
        move(sent, say("{done} of {all}", done=human.size(sent), all=human.size(len(payload))))


def _headers(payload: bytes, *, ndjson: bool, content_type: str | None, **given: str | None) -> dict[str, str]:
    names = {
        "key": "Relay-Key",
        "event": "Relay-Event",
        "priority": "Relay-Priority",
        "expires": "Relay-Expires",
        "idempotency_key": "Idempotency-Key",
        "reference": "Relay-Reference",
        "not_before": "Relay-Not-Before",
    }
    headers = {"Content-Type": content_type or ("application/x-ndjson" if ndjson else _kind(payload))}
    for name, header in names.items():
        value = given[name]
        if value is None:
            continue
        if not value.isprintable():
            words = "--{option} holds control characters, which no header can carry"
            click.echo(say(words, option=name.replace("_", "-")), err=True)
            sys.exit(2)
        # http.client encodes headers in Latin-1, and the relay reads them as UTF-8.
        headers[header] = value.encode().decode("latin-1")
    return headers


def _kind(payload: bytes) -> str:
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return "application/octet-stream"
    return "application/json"
