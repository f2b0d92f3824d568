"""``relay doctor --salvage``: a new store of what can be read of a damaged one, and a report of the rest."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.support.config_file import load_config
from relay.cli.support.output import to_json
from relay.cli.words.sentences import say
from relay.config.schema.file import Config
from relay.core.clock import wall_s
from relay.core.errors import RelayError
from relay.core.model import window_text

if TYPE_CHECKING:
    from relay.store.sqlite.file.salvage import Salvaged

_MICROSECONDS = 1e6


def salvage_store(file: str, *, yes: bool, output: str) -> None:
    """Salvage the store of the configuration ``file`` and say what was lost; the report is kept beside the store."""
    from relay.store.sqlite.file.salvage import salvage  # loads the store's library

    loaded = load_config(file)
    if not loaded.store.url.startswith("sqlite:"):
        raise RelayError(say("store.url names a server; only a store in a file can be salvaged"))
    store = loaded.store_path
    if not yes:
        words = "Put what can be read of {store} in its place, and keep the damaged file beside it?"
        click.confirm(say(words, store=store), abort=True)
    told = salvage(store, aside=datetime.fromtimestamp(wall_s(), UTC).strftime(".damaged-%Y%m%dT%H%M%S"))
    former = told.former or store
    gaps = [
        {"table": gap.table, "after": gap.after, "before": gap.before, **_between(gap.table, gap.after, gap.before)}
        for gap in told.gaps
    ]
    report = {
        "rows": told.rows,
        "gaps": gaps,
        "lost": told.lost,
        "unsendable": told.unsendable,
        "mended": [one._asdict() for one in told.mended],
        "left_out": told.left_out,
        "former": str(former),
    }
    written = Path(f"{former}.report.json")
    unwritten = _unwritten(written, to_json(report, indent=2) + "\n")
    if output != "table":
        click.echo(to_json(report, indent=2 if output == "json" else None))
    else:
        for line in _told(told, store, gaps, loaded):
            click.echo(line)
    if unwritten:  # the store is in its place, and what was lost is told above
        click.echo(say("the report {file} could not be written: {why}", file=written, why=unwritten), err=True)
    elif output == "table":
        click.echo(say("report    {file}", file=written))


def _unwritten(file: Path, text: str) -> str:
    """Write the report; return why it could not be written, or an empty text."""
    try:
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _told(told: "Salvaged", store: Path, gaps: Sequence[Mapping[str, object]], config: Config) -> Iterator[str]:
    """Yield what became of the store, and what is to be done."""
    words = "salvaged  {count} callbacks of {store}; the damaged file is {former}"
    yield say(words, count=f"{told.rows['callback']:,}", store=store, former=told.former or store)
    for one in told.mended:
        words = "mended    page {page}, byte {at}: {found} was found and {right} written, as its checksum says"
        yield say(words, **one._asdict())
    if told.left_out:
        words = "left out  the last {count} commits of the write-ahead log: post again what was accepted last"
        yield say(words, count=told.left_out)
    for name, count in told.lost.items():
        words = "lost      {count} callbacks of {name}: the order center has to post them again"
        yield say(words, count=f"{count:,}", name=name)
    if told.unsendable:
        words = "dead      {count} whose payload is gone (relay dead ls): post them again"
        yield say(words, count=f"{told.unsendable:,}")
    for gap in gaps:
        if "accepted_after" in gap:
            words = "gap       accepted after {after} and before {before}"
            yield say(words, after=gap["accepted_after"], before=gap["accepted_before"])
    windows = [rate.window_s for quota in config.store_rules().quotas.values() for rate in quota.rates]
    if windows and any(gap["table"] == "attempt" for gap in gaps):
        words = "slots     some requests are not counted: start one window ({longest}) after the last"
        yield say(words, longest=window_text(max(windows)))


def _between(table: str, after: int | None, before: int | None) -> dict[str, str]:
    """Return when the callbacks of a gap were accepted."""
    if table not in ("callback", "payload"):
        return {}
    return {"accepted_after": _moment(after), "accepted_before": _moment(before)}


def _moment(number: int | None) -> str:
    if number is None:
        return "-"
    return datetime.fromtimestamp(number / _MICROSECONDS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
