"""``relay explain``: where a callback would go, or why one that was accepted is where it is."""

from typing import Any

import click

from relay.cli import human
from relay.cli.configfile import chosen_file, load_config
from relay.cli.locate import locate, place_options
from relay.cli.output import output_option, print_record, printable
from relay.cli.source import open_source
from relay.core.clock import wall_s

_WAITS = {
    "answer": "a request with it is under way",
    "confirmation": "the answer was not recognised, so it is held for a person",
    "paused": "an operator paused the platform",
    "earlier callback of its key": "callbacks of one key go one after the other",
    "breaker": "the platform is down; its breaker lets one batch try",
    "throttled": "the platform asked to be left alone",
    "retry": "an attempt failed and it backs off",
    "limit": "all requests that the limit allows are used",
    "pace": "requests are spread over the limit's window",
    "linger": "its batch may still fill",
    "share": "other work has its turn at the limit",
    "concurrency": "as many requests as allowed are under way",
    "slot": "it goes with one of the next requests",
    "the daemon to run": "the relay is not running",
}
_ENDS = {
    "delivered": "the platform has it",
    "dead": "it will not be tried again without a person",
    "expired": "it was not delivered in its time",
    "superseded": "a newer callback stands for it",
}


@click.command()
@click.argument("callback_id", metavar="[ID]", required=False)
@click.option("--payload", type=click.File("rb"), help="A payload (- for stdin) to try on the configuration.")
@click.option("--event", help="With --payload: the event's name.")
@click.option("--key", help="With --payload: the ordering key, as Relay-Key would give it.")
@click.option("--platform", help="With --payload: posted to this platform, past the routes.")
@click.option("--content-type", help="With --payload. Default: application/json.", default="application/json")
@place_options
@output_option
def explain(
    callback_id: str | None,
    payload: Any,
    config: str | None,
    admin: str | None,
    output: str,
    platform: str | None,
    **given: Any,
) -> None:
    """Say why callback ID waits and until when, or with --payload where a post would go. Sends nothing."""
    if (callback_id is None) == (payload is None):
        raise click.UsageError("name a callback's ID, or give --payload FILE to try one")
    if callback_id is not None:
        _explain_callback(callback_id, config, admin, output)
    elif not _explain_post(payload.read(), config, output, platform, **given):
        raise click.exceptions.Exit(1)


def _explain_post(payload: bytes, config: str | None, output: str, platform: str | None, **given: str | None) -> bool:
    """Say what a post would come to; return whether it would be accepted."""
    from relay.cli.trial import Trial  # loads what intake needs, which explaining an ID does not

    loaded = load_config(chosen_file(config))
    if platform is not None and platform not in loaded.platforms:
        raise click.UsageError(f"there is no platform {platform!r}; known are {', '.join(loaded.platforms)}")
    names = {"event": "Relay-Event", "key": "Relay-Key", "content_type": "Content-Type"}
    headers = {header: value for name, header in names.items() if (value := given[name]) is not None}
    trial = Trial(loaded)
    view = trial.view(trial.post(payload, headers, platform=platform))
    if output != "table":
        print_record(view, output=output)
    elif not view["accepted"]:
        click.echo(f"refused with {view['code']}: {view['detail']}")
    else:
        if view["route"] is not None:
            click.echo(f"decided by {view['route']}")
        for target in view["targets"]:
            click.echo(_target_text(target))
    accepted: bool = view["accepted"]
    return accepted


def _target_text(target: dict[str, Any]) -> str:
    lines = [("to", target["platform"]), ("key", target["key"] or "none: in no order")]
    if "note" in target:
        lines.append(("note", target["note"]))
    else:
        if target["group"]:
            lines.append(("group", target["group"]))
        one = target["max_items"] == 1
        lines += [
            ("request", f"{target['request']}, {target['content_type']}"),
            (
                "envelope",
                f"{target['envelope']}, {'one callback' if one else 'up to ' + str(target['max_items'])} a request; "
                f"alone it takes {target['body_bytes']} of {target['max_bytes']} bytes",
            ),
            ("limits", ", ".join(target["limits"]) or "none but what is learned"),
            ("expires", f"{human.duration(target['expires_s'])} after it is accepted"),
        ]
    return "\n".join(f"{name.ljust(8)}  {printable(str(text))}" for name, text in lines)


def _explain_callback(callback_id: str, config: str | None, admin: str | None, output: str) -> None:
    source = open_source(locate(config, admin=admin))
    found = source.callback(callback_id, payload=False)
    platform = next((each for each in source.platforms() if each["name"] == found["platform"]), None)
    view = _view(found, platform)
    if output != "table":
        print_record(view, output=output)
        return
    now = wall_s()
    lines = [(view["id"], f"{view['state']} for {view['platform']}: {view['why']}")]
    if view["until"]:
        lines.append(("until", human.moment(view["until"], now=now)))
    if view["last_attempt"]:
        lines.append(("last attempt", _attempt_text(view["last_attempt"], now)))
    if view["platform_reason"]:
        lines.append(("platform", f"{view['platform_state']}: {view['platform_reason']}"))
    if view["next"]:
        lines.append(("to do", view["next"]))
    for name, text in lines:
        click.echo(f"{name}  {printable(text)}")


def _view(found: dict[str, Any], platform: dict[str, Any] | None) -> dict[str, Any]:
    waiting = found.get("waiting") or {}
    word = waiting.get("for")
    state = found["state"]
    if state == "pending":
        why = f"waits for {word}: {_WAITS[word]}" if word in _WAITS else f"waits for {word or 'a slot'}"
    else:
        why = _ENDS.get(state, state)
        if found.get("superseded_by"):
            why = f"{found['superseded_by']} stands for it"
        if found.get("reason"):
            why = f"{why} ({found['reason']})"
    attempts = found.get("attempts") or []
    return {
        "id": found["id"],
        "platform": found["platform"],
        "state": state,
        "why": why,
        "waits_for": word,
        "until": waiting.get("until"),
        "expires_at": found.get("expires_at"),
        "last_attempt": attempts[-1] if attempts else None,
        "platform_state": platform["state"] if platform else None,
        "platform_reason": platform["reason"] if platform else "",
        "next": _next(found, word),
    }


def _next(found: dict[str, Any], word: str | None) -> str:
    """Return what a person can do about it, or nothing."""
    if word == "paused":
        return f"relay resume {found['platform']}"
    if word == "confirmation":
        return 'POST /v1/operations {"action": "resolve", "as": "delivered" or "retry", ...} once you know'
    if found["state"] in ("dead", "expired"):
        state = " --state expired" if found["state"] == "expired" else ""
        return f"relay dead retry {found['id']}{state}"
    return ""


def _attempt_text(attempt: dict[str, Any], now: float) -> str:
    parts = [human.moment(attempt.get("started_at"), now=now), str(attempt.get("outcome") or "under way")]
    for name in ("status", "reason"):
        if attempt.get(name):
            parts.append(str(attempt[name]))
    return " ".join(parts)
