"""``relay ls`` and ``relay show``: find callbacks, and everything about one of them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from msgspec import UNSET
from msgspec.structs import asdict

from relay.cli.support import human, why_wait
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import Row, output_option, print_record, print_rows, printable, to_json
from relay.cli.support.source import Source, open_source
from relay.cli.support.table import padded, width_of, wrapped
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.core.raw import JsonObject
from relay.views.callback_view import AttemptView, CallbackFacts, CallbackPage, CallbackView, ListedCallback
from relay.views.moments import plain

_STATES = ("pending", "delivered", "dead", "expired", "superseded")
_LARGEST_PAGE = 1000
_FIELDS = (
    "platform",
    "state",
    "reason",
    "code",
    "key",
    "event",
    "priority",
    "accepted_at",
    "due_at",
    "expires_at",
    "ended_at",
)

_COLUMNS = ("id", "platform", "state", "key", "event", "accepted", "tries", "reason", "history")
_ALWAYS = ("id", "platform", "state", "accepted", "tries")  # the others only if a row has a value

_Command = TypeVar("_Command", bound=Callable[..., Any])


def filter_options(command: _Command) -> _Command:
    """Give a command the options of a filter (SPEC 4), without the state."""
    for option in (
        click.option("--until", metavar="WHEN", help="Accepted before: 2h (ago), or 2026-11-22T10:00."),
        click.option("--since", metavar="WHEN", help="Accepted at or after: 2h (ago), or 2026-11-22T10:00."),
        click.option("--event", help="Only this event."),
        click.option("--key", help="Only this ordering key (usually the order id)."),
        click.option("--platform", help="Only this platform."),
    ):
        command = option(command)
    return command


ids_option = click.option("--ids", metavar="ID,ID,...", help="Only these.")


@click.command()
@place_options
@filter_options
@click.option("--state", type=click.Choice(_STATES), help="Only callbacks in this state.")
@click.option("--reason", help="Only those with exactly this reason.")
@click.option("--code", help="Only those whose answer had this code.")
@ids_option
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", help="Continue where a -o json answer's 'next' points.")
@output_option
def ls(config: str | None, admin: str | None, limit: int, cursor: str | None, output: str, **wanted: Any) -> None:
    """List callbacks, newest first."""
    show_page(page(open_source(locate(config, admin=admin)), wanted, limit=limit, cursor=cursor), output)


@click.command()
@click.argument("callback_id", metavar="ID")
@place_options
@click.option("--payload", is_flag=True, help="Show the payload too, as far as your view goes.")
@output_option
def show(callback_id: str, config: str | None, admin: str | None, payload: bool, output: str) -> None:
    """Show one callback: its state, why it waits, and every attempt."""
    found = open_source(locate(config, admin=admin)).callback(callback_id, payload=payload)
    if output != "table":
        print_record(plain(found), output=output)
    else:
        click.echo(details(found))


def page(source: Source, wanted: JsonObject, *, limit: int, cursor: str | None) -> CallbackPage:
    """Return up to ``limit`` callbacks, from as many pages as needed."""
    query = query_of(wanted)
    items: list[ListedCallback] = []
    while True:
        found = source.callbacks({**query, "cursor": cursor, "limit": min(limit - len(items), _LARGEST_PAGE)})
        items += found.items
        cursor = found.next
        if cursor is None or len(items) >= limit:
            return CallbackPage(items, cursor)


def query_of(wanted: JsonObject) -> JsonObject:
    """Return the filter for a command's options. A time without a zone is in the zone of this machine."""
    return {
        key: _instant(value) if key in ("since", "until") else value
        for key, value in wanted.items()
        if value is not None
    }


def show_page(found: CallbackPage, output: str) -> None:
    """Print a page of callbacks."""
    if output == "json":
        click.echo(to_json(plain(found), indent=2))
    elif output == "jsonl":
        print_rows(plain(found.items), output=output, columns=())
    else:
        rows = _rows(found.items)
        used = [name for name in _COLUMNS if name in _ALWAYS or any(row.get(name) for row in rows)]
        print_rows(rows, output=output, columns=used, right=("tries",))
        if found.next:
            click.echo(say("there are more: raise --limit or narrow the filter"), err=True)


def details(found: CallbackView) -> str:
    """Return one callback as text."""
    now = wall_s()
    shown = [(say("id"), found.id)]
    for name in _FIELDS:
        value = getattr(found, name)
        if value in (None, ""):
            continue
        if name.endswith("_at"):
            shown.append((say(name.removesuffix("_at")), human.moment(value, now=now)))
        else:
            shown.append((say(name), state_of(found) if name == "state" else str(value)))
    if found.history is not UNSET:
        words = "in the history file of {host}, which alone shows it"
        shown.append((say("history"), say(words, host=found.history)))
    if found.maybe_applied:
        words = "the platform may have applied it: an earlier attempt ended without a clear answer"
        shown.append((say("note"), say(words)))
    if waiting := found.waiting:
        until = say(", until {when}", when=human.moment(waiting.until, now=now)) if waiting.until else ""
        shown.append((say("waiting"), f"{why_wait.sentence(waiting, platform=found.platform)}{until}"))
    width = max(width_of(name) for name, _ in shown)
    lines: list[str] = []
    for name, value in shown:
        lines += wrapped(f"{padded(name, width)}  {printable(value)}", indent=width + 2)
    for number, attempt in enumerate(found.attempts, 1):
        lines += wrapped(say("attempt {number}  {told}", number=number, told=_attempt(attempt, now)), indent=11)
    if found.payload_form:
        words = "payload ({form}, {bytes} bytes)"
        lines.append(say(words, form=found.payload_form, bytes=found.payload_bytes))
        if found.payload is not None:
            lines.append(_payload_text(found))
    return "\n".join(lines)


def state_of(item: CallbackFacts) -> str:
    """Return a callback's state, with ``(held)`` if it is held for a person."""
    return f"{item.state} (held)" if item.held else item.state


def _rows(items: Sequence[ListedCallback]) -> list[Row]:
    now = wall_s()
    return [
        {
            **asdict(item),
            "state": state_of(item),
            "accepted": human.moment(item.accepted_at, now=now),
            "tries": item.attempts,
            "history": "" if item.history is UNSET else item.history,
        }
        for item in items
    ]


def _attempt(attempt: AttemptView, now: float) -> str:
    parts = [human.moment(attempt.started_at, now=now)]
    parts.append(attempt.outcome or say("under way"))
    if attempt.status:
        parts.append(str(attempt.status))
    if attempt.duration_s is not None:
        parts.append(say("in {took}", took=human.duration(attempt.duration_s)))
    if attempt.reason:
        parts.append(f"- {attempt.reason}")
    if attempt.excerpt:
        parts.append(f"- {attempt.excerpt}")
    return printable(" ".join(parts))


def _payload_text(found: CallbackView) -> str:
    if found.payload_form in ("text", "base64"):
        return "\n".join(map(printable, str(found.payload).split("\n")))
    return to_json(found.payload, indent=2)


def _instant(text: str | None) -> str | None:
    """Return a time; one without a zone gets this machine's, which a person means."""
    if text is None or not text[:4].isdigit() or "-" not in text:
        return text
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text  # the daemon's answer will say what is wrong
    return moment.astimezone().isoformat() if moment.tzinfo is None else text
