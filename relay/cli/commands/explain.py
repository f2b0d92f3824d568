"""``relay explain``: why a callback waits or how it ended, where a post would go, or what a code means."""

from typing import Any

import click
from msgspec import Struct

from relay.cli.support import human, why_wait
from relay.cli.support.config_file import chosen_file, load_config
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import aligned, output_option, print_record, printable
from relay.cli.support.source import open_source
from relay.cli.support.table import print_wrapped
from relay.cli.words import meanings
from relay.cli.words.daemon_words import heard
from relay.cli.words.language import spoken
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.core.errors import RelayError
from relay.views.callback_view import AttemptView, CallbackView
from relay.views.moments import Instant, plain
from relay.views.platform import PlatformView
from relay.views.waiting import WaitingView

_ENDS = {
    "delivered": "the platform has it",
    "dead": "it will not be tried again without a person",
    "expired": "it was not delivered in its time",
    "superseded": "a newer callback stands for it",
}


class _Explained(Struct, frozen=True, kw_only=True):
    """What is said of a callback that was accepted."""

    id: str
    platform: str
    state: str
    why: str  # in one sentence
    waits_for: str | None
    until: Instant | None  # when the wait ends; None where nobody knows
    waiting: WaitingView | None
    expires_at: Instant
    last_attempt: AttemptView | None
    platform_state: str | None
    platform_reason: str
    next: str  # the command with which a person ends the wait, or sends it again; empty: nothing to do


@click.command()
@click.argument("callback_id", metavar="[ID|CODE]", required=False)
@click.option("--payload", type=click.File("rb"), help="A payload (- for stdin) to try on the configuration.")
@click.option("--event", help="With --payload: the event's name.")
@click.option("--key", help="With --payload: the ordering key, as Relay-Key would give it.")
@click.option("--platform", help="With --payload: post it to this platform, without asking the routes.")
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
    """Say why the callback ID waits and until when, or what a CODE means.

    A CODE is one of the configuration (E020), of an answer (store_full) or a reason ("retries used up"); no daemon is
    asked. With --payload: say where a post would go. Sends nothing.
    """
    if (callback_id is None) == (payload is None):
        raise click.UsageError(say("name a callback's ID or a code, or give --payload FILE to try one"))
    if callback_id is not None and not _explain_code(callback_id, output):
        _explain_callback(callback_id, config, admin, output)
    elif payload is not None and not _explain_post(payload.read(), config, output, platform, **given):
        raise click.exceptions.Exit(1)


def _explain_code(text: str, output: str) -> bool:
    """Say what a code means; return False for what may be a callback's id."""
    known = meanings.known_codes(spoken())
    found = meanings.meaning_of(text, known)
    if found is None and meanings.is_no_id(text):
        hint = meanings.nearest(text, known)
        raise RelayError(say("no code '{code}'{hint}", code=text[:80], hint=hint))
    if found is None:
        return False
    if output != "table":
        print_record(plain(found), output=output)
    else:
        _say(f"{found.code}: {found.meaning}")
        _say(say("to do  {todo}", todo=found.todo))
    return True


def _explain_post(payload: bytes, config: str | None, output: str, platform: str | None, **given: str | None) -> bool:
    """Say what would become of a post; return whether it would be accepted."""
    from relay.cli.support.trial import Trial  # loads the modules of intake, which an ID does not need

    loaded = load_config(chosen_file(config))
    if platform is not None and platform not in loaded.platforms:
        words = "there is no platform '{name}'; known are {names}"
        raise click.UsageError(say(words, name=platform, names=", ".join(loaded.platforms)))
    names = {"event": "Relay-Event", "key": "Relay-Key", "content_type": "Content-Type"}
    headers = {header: value for name, header in names.items() if (value := given[name]) is not None}
    trial = Trial(loaded)
    view = trial.view(trial.post(payload, headers, platform=platform))
    if output != "table":
        print_record(view, output=output)
    elif not view["accepted"]:
        _say(say("refused with {code}: {detail}", code=view["code"], detail=view["detail"]))
    else:
        if view["route"] is not None:
            _say(say("decided by {route}", route=view["route"]))
        for target in view["targets"]:
            for line in _target_lines(target):
                click.echo(line)
    accepted: bool = view["accepted"]
    return accepted


def _target_lines(target: dict[str, Any]) -> list[str]:
    lines = [(say("to"), target["platform"]), (say("key"), target["key"] or say("none: in no order"))]
    if "note" in target:
        lines.append((say("note"), target["note"]))
    else:
        if target["group"]:
            lines.append((say("group"), target["group"]))
        words = "{envelope}, up to {count} a request; alone it takes {bytes} of {most} bytes"
        if target["max_items"] == 1:
            words = "{envelope}, one callback a request; alone it takes {bytes} of {most} bytes"
        packed = {"envelope": target["envelope"], "count": target["max_items"]}
        packed |= {"bytes": target["body_bytes"], "most": target["max_bytes"]}
        lines += [
            (say("request"), f"{target['request']}, {target['content_type']}"),
            (say("envelope"), say(words, **packed)),
            (say("limits"), ", ".join(target["limits"]) or say("none but what is learned")),
            (say("expires"), say("{span} after it is accepted", span=human.duration(target["expires_s"]))),
        ]
    return aligned(lines)


def _explain_callback(callback_id: str, config: str | None, admin: str | None, output: str) -> None:
    source = open_source(locate(config, admin=admin))
    found = source.callback(callback_id, payload=False)
    platform = next((each for each in source.platforms() if each.name == found.platform), None)
    view = _view(found, platform)
    if output != "table":
        print_record(plain(view), output=output)
        return
    now = wall_s()
    held = " (held)" if found.held else ""
    words = "{id}  {state} for {platform}: {why}"
    _say(say(words, id=view.id, state=f"{view.state}{held}", platform=view.platform, why=view.why))
    facts = [
        ("until", human.moment(view.until, now=now) if view.until else ""),
        ("queue", _queue_text(view.waiting, platform)),
        ("expires", human.moment(view.expires_at, now=now) if view.state == "pending" else ""),
        ("last attempt", _attempt_text(view.last_attempt, now) if view.last_attempt else ""),
        ("limit", _limit_text(view.waiting, platform)),
        ("platform", _platform_text(view)),
        ("to do", view.next),
    ]
    for name, text in facts:
        if text:
            _say(f"{say(name)}  {text}")


def _say(text: str) -> None:
    """Print a fact; on a terminal it is wrapped, its further lines indented."""
    print_wrapped(printable(text))


def _view(found: CallbackView, platform: PlatformView | None) -> _Explained:
    waiting = found.waiting or None
    if waiting is None:
        why, until, todo = _end(found), None, _again(found)
    else:
        why, until = why_wait.sentence(waiting, platform=found.platform), why_wait.until_of(waiting)
        todo = why_wait.to_do(waiting, platform=found.platform, callback=found.id)
    return _Explained(
        id=found.id,
        platform=found.platform,
        state=found.state,
        why=why,
        waits_for=None if waiting is None else waiting.word,
        until=until,
        waiting=waiting,
        expires_at=found.expires_at,
        last_attempt=found.attempts[-1] if found.attempts else None,
        platform_state=platform.state if platform else None,
        platform_reason=platform.reason if platform else "",
        next=todo,
    )


def _end(found: CallbackView) -> str:
    """Return what has become of it."""
    why = say(_ENDS[found.state])
    if found.state == "superseded" and found.reason == "cancelled":
        return say("the order center took it back (cancelled)")
    if found.superseded_by:
        why = say("{id} stands for it", id=found.superseded_by)
    elif found.payload_deleted:
        why = say("its payload was deleted, it cannot be sent again")
    return why + say(" ({reason})", reason=found.reason) if found.reason else why


def _again(found: CallbackView) -> str:
    """Return the command that sends it again; empty if that is impossible."""
    if found.state not in ("dead", "expired") or found.payload_deleted:
        return ""
    state = " --state expired" if found.state == "expired" else ""
    return f"relay dead retry {found.id}{state}"


def _queue_text(waiting: WaitingView | None, platform: PlatformView | None) -> str:
    """Return how many callbacks wait for the same thing: when the wait ends, only the first of them can go."""
    if not waiting or not platform or platform.pending < 2 or not why_wait.is_for_many(waiting):
        return ""
    drained_s = platform.drain_eta_seconds
    about = say(", all sent in about {span}", span=human.duration(drained_s)) if drained_s else ""
    if drained_s is None and platform.drain_reason:
        about = say("; when they are all sent nobody can say ({reason})", reason=heard(platform.drain_reason))
    return say("{count} are pending{about}", count=platform.pending, about=about)


def _limit_text(waiting: WaitingView | None, platform: PlatformView | None) -> str:
    """Return the evidence of the learned limit that it waits for; empty if it waits for no such limit."""
    limit = waiting.limit if waiting else None
    learned = platform.learned_limit if platform else None
    if not limit or not learned or limit.source != learned.source or limit.source not in ("learned", "operator"):
        return ""
    why = learned.reason if limit.source == "operator" else heard(learned.evidence.sentence)
    return f"{limit.rate} {say(limit.source)}: {why}" if why else ""


def _attempt_text(attempt: AttemptView, now: float) -> str:
    status, reason = str(attempt.status or ""), attempt.reason
    if reason.split(" ", 1)[0] == status:  # "429 Too Many Requests" has it already
        status = ""
    told = (human.moment(attempt.started_at, now=now), attempt.outcome or say("under way"), status, reason)
    return " ".join(part for part in told if part)


def _platform_text(view: _Explained) -> str:
    """Return the state of its platform; empty if it no longer matters."""
    if view.state != "pending" or not view.platform_reason:
        return ""
    return f"{view.platform_state}: {heard(view.platform_reason)}"
