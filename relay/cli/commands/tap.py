"""``relay tap``: what is accepted and what comes of it, a line each, as it happens."""

import time
from collections.abc import Iterator

import click

from relay.cli.commands.callbacks import state_of
from relay.cli.support.client import Client, Refused, Unreachable, segment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import Row, output_option, printable, to_json
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.views.callback_view import CallbackFacts, CallbackPage, CallbackView
from relay.views.moments import Instant, instant_text, plain

_PAGE = 200  # new callbacks shown of one look
_LOOKS = 50  # followed callbacks asked for in one look
_FOLLOWED = 1000  # that have not ended; of more the oldest are no longer followed


@click.command()
@click.argument("platform", required=False)
@click.option("--lines", type=click.IntRange(min=1), help="End after so many lines. Default: at Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(min=0.2), default=1.0, show_default=True, help="Seconds between two looks."
)
@place_options
@output_option
def tap(
    platform: str | None, lines: int | None, interval: float, config: str | None, admin: str | None, output: str
) -> None:
    """Show what is accepted from now on, for PLATFORM or for all, and what comes of it.

    A line for each callback and for each change of its state. No payload is shown. Where more comes in than can be
    shown, a line says so. With -o json or jsonl each line is an object.
    """
    tapped = _Tap(locate(config, admin=admin).admin_client(), platform)
    tapped.begin()
    shown = 0
    try:
        while True:
            try:
                for row in tapped.look():
                    click.echo(to_json(row) if output != "table" else _line(row))
                    shown += 1
                    if shown == lines:
                        return
            except Unreachable as error:  # the daemon restarts: go on
                click.echo(str(error), err=True)
            time.sleep(interval)
    except KeyboardInterrupt:
        return


class _Tap:
    """What was shown last of each callback that is followed."""

    def __init__(self, client: Client, platform: str | None) -> None:
        self._client = client
        self._platform = platform
        self._newest: Instant | None = None
        self._at_newest: set[str] = set()  # shown already, of those accepted at that very time
        self._followed: dict[str, tuple[str, str]] = {}

    def begin(self) -> None:
        """Note the newest callback there is: only what comes after it is shown."""
        for item in self._page(1).items:
            self._note(item)

    def look(self) -> Iterator[Row]:
        """Yield what is new since the last look: callbacks accepted, oldest first, then changes."""
        page = self._page(_PAGE)
        if page.next:
            yield {
                "at": instant_text(wall_s()),
                "what": "more",
                "reason": say("more than {count} at once: relay ls", count=_PAGE),
            }
        for item in reversed([each for each in page.items if each.id not in self._at_newest]):
            self._note(item)
            self._followed[item.id] = ("pending", "")
            yield {**_row(item), "at": instant_text(item.accepted_at), "what": "accepted", "reason": ""}
        while len(self._followed) > _FOLLOWED:
            del self._followed[next(iter(self._followed))]
        for callback_id in list(self._followed)[:_LOOKS]:
            yield from self._changed(callback_id)

    def _changed(self, callback_id: str) -> Iterator[Row]:
        try:
            found = self._client.view(CallbackView, f"/v1/callbacks/{segment(callback_id)}")
        except Refused as refused:
            if refused.status != 404:
                raise
            del self._followed[callback_id]  # pruned
            return
        before = self._followed.pop(callback_id)  # only now: who cannot be reached is asked for it again
        told = (state_of(found), found.reason)
        if found.state == "pending":
            self._followed[callback_id] = told  # last: the others have their turn first
        if told != before:
            at = found.ended_at or (found.attempts[-1].started_at if found.attempts else wall_s())
            yield {**_row(found), "at": instant_text(at), "what": told[0], "reason": found.reason}

    def _page(self, limit: int) -> CallbackPage:
        query = {"platform": self._platform, "since": instant_text(self._newest), "limit": limit}
        return self._client.view(CallbackPage, "/v1/callbacks", query)

    def _note(self, item: CallbackFacts) -> None:
        if self._newest is None or item.accepted_at > self._newest:
            self._newest = item.accepted_at
            self._at_newest = set()
        self._at_newest.add(item.id)


def _row(item: CallbackFacts) -> Row:
    shown: Row = plain(item)
    return {name: shown[name] for name in ("id", "platform", "key", "event")}


def _line(row: Row) -> str:
    names = ("at", "what", "platform", "id", "key", "event", "reason")
    return printable("  ".join(str(row[name]) for name in names if row.get(name)))
