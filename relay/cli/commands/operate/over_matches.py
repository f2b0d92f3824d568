"""One operation from the command line: count the matches, ask, start it and wait for its end."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from relay.cli.commands.callbacks import query_of
from relay.cli.main import EXIT_FAILED
from relay.cli.support.client import Client, Refused, segment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import Row, output_option, print_record
from relay.cli.support.progress import Move, bar
from relay.cli.words.sentences import say
from relay.core.plural import count
from relay.core.raw import JsonObject
from relay.views.callback_view import CallbackView
from relay.views.moments import plain
from relay.views.operation_view import MatchCount, OperationView

_POLL_S = 0.1
_SLOWEST_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """Which callbacks an operation is for, how fast it goes and why, and the daemon that carries it out.

    ``filters`` are the options of a filter, with ``state`` and ``died_of``.
    """

    client: Client
    ids: tuple[str, ...]
    rate: str | None
    reason: str
    reorder: bool
    filters: JsonObject
    verdict: str | None = None  # of resolve: what became of the callbacks

    @property
    def state(self) -> str:
        """The state of its matches, in a word: held for those that a person resolves."""
        return "held" if self.verdict else str(self.filters["state"])

    @property
    def request(self) -> JsonObject:
        """Its part of the body of ``POST /v1/operations``."""
        given = {"reason": self.reason, "rate": self.rate, "reorder": self.reorder, "as": self.verdict}
        return {
            "filter": filter_of(self.ids, **self.filters),
            **{name: value for name, value in given.items() if value},
        }


@dataclass(frozen=True, slots=True)
class Manner:
    """Whether to only count, to ask first and to wait for the end, and the form of the output."""

    dry_run: bool
    yes: bool
    no_wait: bool
    output: str


def acting(act: Callable[..., None], *, selection: Callable[[Any], Any]) -> Callable[..., None]:
    """Give a command the options that all operations share, and those of ``selection``, which say what is meant.

    The command gets them as ``order`` and ``manner``.
    """

    @functools.wraps(act)
    def command(
        config: str | None,
        admin: str | None,
        ids: tuple[str, ...],
        rate: str | None,
        reason: str,
        dry_run: bool,
        yes: bool,
        no_wait: bool,
        output: str,
        reorder: bool = False,
        verdict: str | None = None,
        **filters: Any,
    ) -> None:
        order = Order(locate(config, admin=admin).admin_client(), ids, rate, reason, reorder, filters, verdict)
        act(order, Manner(dry_run, yes, no_wait, output))

    for option in (
        output_option,
        place_options,
        click.option("--no-wait", is_flag=True, help="Do not wait until it is done."),
        click.option("--yes", is_flag=True, help="Do it without asking first."),
        click.option("--dry-run", is_flag=True, help="Only count the matches, change nothing."),
        click.option("--reason", default="", help="Why you do it. It is kept in the audit record."),
        click.option("--rate", metavar="RATE", help="At most so many callbacks in a time, such as 50/min."),
        selection,
        click.argument("ids", metavar="[ID]...", nargs=-1),
    ):
        command = option(command)
    return command


def operate(action: str, order: Order, manner: Manner) -> None:
    """Count the matches, ask, start the operation and wait for it, as far as ``manner`` says."""
    client, state = order.client, order.state
    request = {"action": action, **order.request}
    matched = client.viewed(MatchCount, client.post("/v1/operations", {**request, "dry_run": True})).matched
    if order.ids and matched < len(set(order.ids)):
        _refuse_missing(order)
    which = say("{callbacks}", callbacks=count(matched, f"{state} callback"), n=matched, state=state)
    if manner.dry_run or not matched:
        text = say("nothing to {action}: {which} match", action=action, which=which)
        if matched:
            text = say("{which} would be taken; nothing was done", which=which)
        counted: Row = {"action": action, "matched": matched, "dry_run": manner.dry_run}
        _report(counted, manner.output, text)
        return
    as_what = say(" as {verdict}", verdict=order.verdict) if order.verdict else ""
    if not manner.yes:
        _ask(say("{action} {which}{as_what}?", action=action, which=which, as_what=as_what))
    operation = client.viewed(OperationView, client.post("/v1/operations", {**request, "expect_count": matched}))
    if not manner.no_wait:
        operation = _wait(client, operation)
    _report(plain(operation), manner.output, result_text(operation))


def filter_of(ids: tuple[str, ...], /, *, died_of: str | None, **wanted: Any) -> JsonObject:
    """Return the filter of an operation or a list for the options of a command."""
    given = query_of({**wanted, "reason": died_of})
    return {**given, "ids": list(ids)} if ids else given


def _refuse_missing(order: Order) -> NoReturn:
    """Say which of the named callbacks do not match and why, and end with 1: a person wanted all of them or none."""
    state = order.state
    filtered = any(value is not None for name, value in order.filters.items() if name != "state")
    for number in dict.fromkeys(order.ids):
        try:
            found = order.client.view(CallbackView, f"/v1/callbacks/{segment(number)}")
        except Refused as refused:
            if refused.status != 404:
                raise
            click.echo(f"relay: {refused}", err=True)
            continue
        word = "held" if found.held else found.state
        if word != state:
            words = "relay: {id} is {word}, not {state}"
            click.echo(say(words, id=number, word=word, state=state), err=True)
        elif filtered:
            words = "relay: {id} is {state}; does the rest of the filter fit it?"
            click.echo(say(words, id=number, state=state), err=True)
    click.echo(say("relay: nothing was done"), err=True)
    raise click.exceptions.Exit(EXIT_FAILED)


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        click.echo(say("nobody to ask: add --yes (or --dry-run to count only)"), err=True)
        raise SystemExit(2)
    if not click.confirm(question, err=True):
        raise SystemExit(1)


def _wait(client: Client, operation: OperationView) -> OperationView:
    """Return the operation when it has ended. Ctrl-C ends only the waiting."""
    delay_s = _POLL_S
    try:
        with contextlib.ExitStack() as shown:
            move: Move | None = None
            if sys.stderr.isatty():
                move = shown.enter_context(bar(say("operation {id}", id=operation.id), operation.matched))
            while operation.finished_at is None:
                if move is not None:
                    done = say("{done} of {all}", done=f"{operation.worked_off:,}", all=f"{operation.matched:,}")
                    move(operation.worked_off, done)
                time.sleep(delay_s)
                delay_s = min(delay_s * 1.5, _SLOWEST_POLL_S)
                operation = client.view(OperationView, f"/v1/operations/{operation.id}")
    except KeyboardInterrupt:
        click.echo(say("operation {id} goes on without this command", id=operation.id), err=True)
        raise SystemExit(1) from None
    return operation


def result_text(operation: OperationView) -> str:
    """Return what became of the matches, with the number of those skipped for each reason."""
    text = say(_PAST[operation.action], id=operation.id, done=operation.done, all=operation.matched)
    if operation.finished_at is None:
        return text + say(" so far")
    for why, number in operation.skipped.items():
        text += say("; {count} skipped: {why}", count=number, why=say(_WHY[why]) if why in _WHY else why)
    return text


_PAST = {
    "retry": "operation {id}: {done} of {all} pending again",
    "drop": "operation {id}: {done} of {all} dropped",
    "resolve": "operation {id}: {done} of {all} resolved",
    "resend": "operation {id}: {done} of {all} sent again",
}
_WHY = {
    "overtaken": "a newer callback of the key was delivered meanwhile (--reorder sends them all the same)",
    "state": "changed state meanwhile",
    "no_payload": "the payload was dropped",
    "gone": "pruned meanwhile",
    "no_route": "still no route takes it (relay explain --payload says why)",
    "invalid_json": "a platform of its route needs JSON, the payload is none",
    "too_large": "a platform of its route takes no payload of this size",
    "store_full": "the store is full",
    "resent": "sent again before, for the same run",
}


def _report(result: Row, output: str, text: str) -> None:
    if output != "table":
        print_record(result, output=output)
    else:
        click.echo(text)
