"""``relay store copy``: a store moved from a file to a server, and back."""

import asyncio
import os
import sys

import click
from msgspec import structs

from relay.cli.support.config_file import load_config
from relay.cli.support.locate import WHERE, found_file
from relay.cli.support.output import Row, output_option, print_rows, to_json
from relay.cli.words.sentences import say
from relay.config.problems import BadValue
from relay.config.reading.texts import parse_store_url
from relay.config.schema.file import Config
from relay.core.errors import StoreUnusable
from relay.store.transfer.copy_run import Copied

_SHOWN = ("accepted", "pending", "held", "delivered", "dead", "expired", "superseded")
_COLUMNS = ("platform", "store", *_SHOWN)
_EXIT_UNEQUAL = 1
_NOTHING = ("", "")


def _url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return parse_store_url(value)
    except BadValue as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise click.BadParameter(f"{error.message}{hint}") from None


@click.group()
def store() -> None:
    """Copy a store from a file to a server, and back."""


@store.command()
@click.option("--from", "source", required=True, metavar="URL", callback=_url, help="The store that is copied.")
@click.option("--to", "target", required=True, metavar="URL", callback=_url, help="The store that is filled.")
@click.option("--resume", is_flag=True, help="Go on with a copy that was cut off.")
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    help="Its privacy.encrypt opens and seals, its store.prefix and store.durability are those of the server. "
    f"Default: {WHERE}; none is needed.",
)
@output_option
def copy(source: str, target: str, resume: bool, config: str | None, output: str) -> None:
    """Copy the store at one URL into the empty one at the other, with all daemons of both stopped, and compare them.

    Everything goes along: callbacks in every state under their ids, the order of each key, idempotency keys, requests
    that windows still count, gates, operations, audit records, the minutes of the history. Nothing of the source is
    changed. Exits 0 only if both count the same.

    \b
    relay store copy --from sqlite:relay.db --to redis://10.0.0.5:6379/0
    relay store copy --from redis://10.0.0.5:6379/0 --to sqlite:relay.db
    """
    from relay.daemon.store_copy import copy_between  # loads the stores' libraries

    loaded = _loaded(config)
    shown = _Progress()
    try:
        done = asyncio.run(copy_between(source, target, loaded, resume=resume, told=shown.told))
    except BaseException as error:  # also a person's Ctrl-C; raised on
        shown.end()
        if shown.begun and not isinstance(error, StoreUnusable):  # that one says itself what to do first
            click.echo(say("the copy was cut off: run the same command with --resume, and it goes on"), err=True)
        raise
    shown.end()
    if output == "table":
        print_rows(_rows(done), output=output, columns=_COLUMNS, right=_SHOWN)
    else:
        sides = {
            name: {platform: structs.asdict(each) for platform, each in side.items()}
            for name, side in (("from", done.source), ("to", done.target))
        }
        record = {**sides, "differences": [each._asdict() for each in done.differences]}
        click.echo(to_json(record, indent=2 if output == "json" else None))
    if done.differences:
        words = "{platform}: {what} is {source} there and {target} here"
        for each in done.differences:
            click.echo(say(words, **each._asdict()), err=True)
        raise click.exceptions.Exit(_EXIT_UNEQUAL)
    if output == "table":
        click.echo(say("the ledgers are equal; {url} is a store now: set it as store.url and start", url=target))


def _loaded(config: str | None) -> Config | None:
    """Return the configuration: the one that is named, or the one that is found."""
    file = config or found_file()
    return load_config(file) if config is not None or os.path.exists(file) else None


def _rows(done: Copied) -> list[Row]:
    rows: list[Row] = []
    for platform in sorted(done.source.keys() | done.target.keys()):
        for name, side in (("from", done.source), ("to", done.target)):
            counts = {} if platform not in side else structs.asdict(side[platform])
            rows.append({"platform": platform, "store": say(name), **{word: counts.get(word, 0) for word in _SHOWN}})
    return rows


class _Progress:
    """One line on a terminal: what is carried, and how much of it."""

    def __init__(self) -> None:
        self._seen = _NOTHING
        self._count = 0
        self._live = sys.stderr.isatty()

    @property
    def begun(self) -> bool:
        """Whether anything was carried."""
        return self._seen != _NOTHING

    def told(self, section: str, platform: str, count: int) -> None:
        """Show another chunk."""
        if (section, platform) != self._seen:
            self._seen, self._count = (section, platform), 0
        self._count += count
        if self._live:
            click.echo(f"\r\033[K{section} {platform} {self._count:,}", nl=False, err=True)

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            click.echo("\r\033[K", nl=False, err=True)
