"""``relay ls`` and ``relay show``: find callbacks, and everything about one of them."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli.support import human, why_wait
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import output_option, print_record, print_rows, printable, to_json
from relay.cli.support.source import Source, open_source
from relay.core.clock import wall_s

_STATES = ("pending", "delivered", "dead", "expired", "superseded")
_LARGEST_PAGE = 1000
_FIELDS = ("platform", "state", "reason", "key", "event", "priority", "accepted_at", "due_at", "expires_at", "ended_at")

_COLUMNS = ("id", "platform", "state", "key", "event", "accepted", "tries", "reason")
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


@click.command()
@place_options
@filter_options
@click.option("--state", type=click.Choice(_STATES), help="Only callbacks in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", help="Continue where a -o json answer's 'next' points.")
@output_option
def ls(config: str | None, admin: str | None, limit: int, cursor: str | None, output: str, **wanted: Any) -> None:
    """List callbacks, newest first."""
    show_page(page(open_source(locate(config, admin=admin)), wanted, limit=limit, cursor=cursor), output)


@click.command()
@click.argument("callback_id", metavar="ID")
@place_options
@click.option("--payload", is_flag=True, help="Show the payload too: masked unless your role may see it.")
@output_option
def show(callback_id: str, config: str | None, admin: str | None, payload: bool, output: str) -> None:
    """Show one callback: its state, why it waits, and every attempt."""
    found = open_source(locate(config, admin=admin)).callback(callback_id, payload=payload)
    if output != "table":
        print_record(found, output=output)
    else:
        click.echo(details(found))


def page(source: Source, wanted: dict[str, Any], *, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return up to ``limit`` callbacks, from as many pages as needed."""
    query = query_of(wanted)
    items: list[dict[str, Any]] = []
    while True:
        found = source.callbacks({**query, "cursor": cursor, "limit": min(limit - len(items), _LARGEST_PAGE)})
        items += found["items"]
        cursor = found["next"]
        if cursor is None or len(items) >= limit:
            return {"items": items, "next": cursor}


def query_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the filter for a command's options. A time without a zone is in the zone of this machine."""
    return {
        key: _instant(value) if key in ("since", "until") else value
        for key, value in wanted.items()
        if value is not None
    }


def show_page(found: dict[str, Any], output: str) -> None:
    """Print a page of callbacks."""
    if output == "json":
        click.echo(to_json(found, indent=2))
    elif output == "jsonl":
        print_rows(found["items"], output=output, columns=())
    else:
        rows = _rows(found["items"])
        used = [name for name in _COLUMNS if name in _ALWAYS or any(row.get(name) for row in rows)]
        print_rows(rows, output=output, columns=used, right=("tries",))
        if found["next"]:
            click.echo("there are more: raise --limit or narrow the filter", err=True)


def details(found: dict[str, Any]) -> str:
    """Return one callback as text."""
    now = wall_s()
    shown = [("id", found["id"])]
    for name in _FIELDS:
        value = found.get(name)
        if value in (None, ""):
            continue
        if name.endswith("_at"):
            shown.append((name.removesuffix("_at"), human.moment(value, now=now)))
        else:
            shown.append((name, state_of(found) if name == "state" else str(value)))
    if found.get("maybe_applied"):
        shown.append(("note", "the platform may have applied it: an earlier attempt ended without a clear answer"))
    if waiting := found.get("waiting"):
        until = f", until {human.moment(waiting['until'], now=now)}" if waiting["until"] else ""
        shown.append(("waiting", f"{why_wait.sentence(waiting, platform=found['platform'])}{until}"))
    width = max(len(name) for name, _ in shown)
    lines = [f"{name.ljust(width)}  {printable(value)}" for name, value in shown]
    attempts = found.get("attempts")
    if isinstance(attempts, list):
        for number, attempt in enumerate(attempts, 1):
            lines.append(f"attempt {number}  {_attempt(attempt, now)}")
    if "payload_form" in found:
        lines.append(f"payload ({found['payload_form']}, {found['payload_bytes']} bytes)")
        if found["payload"] is not None:
            lines.append(_payload_text(found))
    return "\n".join(lines)


def state_of(item: dict[str, Any]) -> str:
    """Return a callback's state, with ``(held)`` if it is held for a person."""
    return f"{item['state']} (held)" if item.get("held") else str(item["state"])


def _rows(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    now = wall_s()
    return [
        {
            **item,
            "state": state_of(item),
            "accepted": human.moment(item["accepted_at"], now=now),
            "tries": _tries(item),
            "reason": item.get("reason") or "",
        }
        for item in items
    ]


def _tries(item: dict[str, Any]) -> int:
    attempts = item.get("attempts", 0)
    return len(attempts) if isinstance(attempts, list) else int(attempts)


def _attempt(attempt: dict[str, Any], now: float) -> str:
    parts = [human.moment(attempt.get("started_at") or attempt.get("ended_at"), now=now)]
    parts.append(str(attempt.get("outcome") or "under way"))
    if attempt.get("status"):
        parts.append(str(attempt["status"]))
    if attempt.get("duration_s") is not None:
        parts.append(f"in {human.duration(attempt['duration_s'])}")
    if attempt.get("reason"):
        parts.append(f"- {attempt['reason']}")
    if attempt.get("excerpt"):
        parts.append(f"- {attempt['excerpt']}")
    return printable(" ".join(parts))


def _payload_text(found: dict[str, Any]) -> str:
    if found["payload_form"] in ("text", "base64"):
        return "\n".join(map(printable, str(found["payload"]).split("\n")))
    return to_json(found["payload"], indent=2)


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
