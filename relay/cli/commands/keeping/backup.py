"""``relay backup`` and ``relay restore``: a copy of the store, and the way back."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from relay.cli.support.config_file import load_config
from relay.cli.support.human import size
from relay.cli.support.locate import WHERE, found_file
from relay.cli.support.output import output_option, print_record
from relay.cli.words.sentences import say
from relay.config.schema.file import Config
from relay.core.clock import wall_s
from relay.core.errors import RelayError
from relay.core.model import window_text
from relay.core.plural import count

_config_option = click.option("-c", "--config", metavar="FILE", help=f"The configuration. Default: {WHERE}.")
_history_option = click.option(
    "--history", is_flag=True, help="Mean the history file of this host (store.keep.history), not the store."
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_config_option
@_history_option
@output_option
def backup(file: Path, config: str | None, history: bool, output: str) -> None:
    """Copy the store to FILE, which must not exist, with the daemon up or down, and look the copy through.

    The copy is one state of the store, sealed as the store is, mode 0600. Keep it apart from the key. Of a store on a
    server this copies the history file of this host alone, with --history.
    """
    from relay.daemon.stores import key_source  # loads the store's library
    from relay.store.sqlite.file.copying import back_up

    loaded = _of_file(config, history=history)
    facts = back_up(_place(loaded, history=history), file, key_source(loaded))
    if output != "table":
        print_record({"file": str(file), **facts._asdict()}, output=output)
        return
    words = "{file}: {size}, {pending} pending, sound, not sealed (yet): it holds payloads in plain"
    if facts.sealed:
        words = "{file}: {size}, {pending} pending, sound, sealed"
    click.echo(say(words, file=file, size=size(facts.size_bytes), pending=facts.pending))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_config_option
@_history_option
@output_option
def restore(file: Path, config: str | None, history: bool, output: str) -> None:
    """Put the backup FILE in the place of the store. Stop the daemon first.

    What lay there is renamed and kept. What was pending in the backup is sent at the next start, also what the platform
    has got since; what was accepted after the backup is not in it. What was forgotten after it is forgotten again; in a
    history file (--history) by the daemon, in the minute after its start. An audit record says who put the store there,
    and what the newest record of the former store was.
    """
    from relay.cli.support import offline  # loads the daemon's libraries
    from relay.daemon.stores import key_source
    from relay.store.sqlite.file.copying import finish_exchange
    from relay.store.sqlite.file.copying import restore as put_back
    from relay.store.sqlite.keeping.forgotten import NOTHING_SINCE, forgotten_since

    loaded = _of_file(config, history=history)
    keys = key_source(loaded)
    if history:
        place = _place(loaded, history=True)
        finish_exchange(place)
        facts, former = put_back(file, place, keys, aside=_aside())
        record = {"file": str(place), "former": None if former is None else str(former), **facts._asdict()}
        if output != "table":
            print_record(record, output=output)
        else:
            click.echo(say("{path} is the backup now", path=place))
        return
    finish_exchange(loaded.store_path)
    forgotten = forgotten_since(loaded.store_path, file, keys)
    aside = _aside()
    again = 0

    def change(coming: Path) -> None:  # before the backup is the store: a crash leaves nobody in it
        nonlocal again
        since = forgotten or NOTHING_SINCE
        if since.again:
            again = asyncio.run(offline.forget_again(loaded, coming, since.again))
        offline.note_restored(loaded.store_path, coming, file, since.elsewhere)

    facts, former = put_back(file, loaded.store_path, keys, aside=aside, change=change)
    if output != "table":
        record = {"file": str(loaded.store_path), "former": None if former is None else str(former)}
        forgetting = {"forgotten_again": None if forgotten is None else again}
        print_record({**record, **facts._asdict(), **forgetting}, output=output)
        return
    told = None if forgotten is None else forgotten.again
    for line in [*_told(loaded, facts.pending, former), *_told_of_forgotten(told, again)]:
        click.echo(line)


def _aside() -> str:
    """Return what the name of a file that is replaced now ends in."""
    return datetime.fromtimestamp(wall_s(), UTC).strftime(".replaced-%Y%m%dT%H%M%S")


def _told_of_forgotten(forgotten: Sequence[object] | None, again: int) -> Sequence[str]:
    if forgotten is None:
        words = "the former store cannot be read: what was forgotten after the backup is in it again; forget it again"
        return [say(words)]
    if not forgotten:
        return []
    words = "forgotten again, as it was after the backup: {callbacks}"
    return [say(words, callbacks=count(again, "callback"), n=again)]


def _told(config: Config, pending: int, former: Path | None) -> Sequence[str]:
    words = "{path} is the backup now; {pending} pending callbacks are sent at the next start"
    lines = [say(words, path=config.store_path, pending=pending)]
    lines.append(say("what the platforms got after the backup is sent again; what was accepted after it is not in it"))
    windows = [rate.window_s for quota in config.store_rules().quotas.values() for rate in quota.rates]
    if windows:
        longest = window_text(max(windows))
        words = "requests made after the backup are not counted: start one window ({longest}) after the last one"
        lines.append(say(words, longest=longest))
    if former is not None:
        lines.append(say("the former store is {former}; delete it when you need it no more", former=former))
    return lines


def _of_file(config: str | None, *, history: bool) -> Config:
    loaded = load_config(config or found_file())
    if loaded.server is None:
        if history:
            raise RelayError(say("store.url names a file: there is no history file beside it"))
        return loaded
    if not history:
        scheme = loaded.store.url.partition(":")[0]
        words = "{scheme}: back the server up with its own means; --history means the history file of this host"
        raise RelayError(say(words, scheme=scheme))
    return loaded


def _place(config: Config, *, history: bool) -> Path:
    return config.history_path if history else config.store_path
