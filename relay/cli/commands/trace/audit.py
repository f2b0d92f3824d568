"""``relay audit``: who changed or saw what, and whether the record of it is whole."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from relay.cli.commands.callbacks import query_of
from relay.cli.commands.trace.journal import listed, page_of, show_list
from relay.cli.support import human
from relay.cli.support.locate import locate, place_options
from relay.cli.support.source import Source, open_source
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.privacy.chain import Link, read_lines, record_text, verify
from relay.views.past.journal import AuditPage

_PAGE_RECORDS = 1000
_HASH = re.compile(r"[0-9A-Fa-f]{64}")


@click.group()
def audit() -> None:
    """Show who changed or saw what: one record for each, written before the deed."""


@audit.command()
@click.option("--action", metavar="ACTION", help="Only this: platform.pause, operation.retry, payload.reveal, ...")
@click.option("--target", metavar="NAME", help="Only what was done to this platform or callback.")
@listed
def ls(config: str | None, admin: str | None, limit: int, cursor: str | None, output: str, **wanted: Any) -> None:
    """List audit records, newest first."""
    source = open_source(locate(config, admin=admin))
    page = page_of(AuditPage, source.audits, query_of(wanted), limit, cursor)
    now = wall_s()
    rows = [
        {
            "at": human.moment(each.at, now=now),
            "who": each.who,
            "from": each.origin,
            "action": each.action,
            "target": each.target,
            "reason": each.reason,
        }
        for each in page.items
    ]
    show_list(page, rows, ("at", "who", "from", "action", "target", "reason"), output, right=())


@audit.command()
@place_options
def export(config: str | None, admin: str | None) -> None:
    """Print every audit record as JSON lines, oldest first, each with the hash that chains it to the one before."""
    for link in _links(open_source(locate(config, admin=admin))):
        click.echo(link.line())


def _hash(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    if given is not None and not _HASH.fullmatch(given.strip()):
        raise click.BadParameter(say("{given}: a hash has 64 hex digits", given=given))
    return given if given is None else given.strip()


@audit.command("verify")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--head",
    metavar="HASH",
    callback=_hash,
    help="A hash of /v1/audit/head that was kept elsewhere: it must be there.",
)
@place_options
def verify_command(file: str | None, head: str | None, config: str | None, admin: str | None) -> int:
    """Check that no audit record was changed, dropped, moved or cut off, in FILE (of export) or in the store."""
    if file is not None:
        name = file
        verdict = verify(read_lines(Path(file).read_text("utf-8-sig", "replace").split("\n")), head=head)
    else:
        name, source = say("the store"), open_source(locate(config, admin=admin))
        newest = source.audit_head().hash  # before the records: what is written meanwhile only adds to them
        links = list(_links(source))
        verdict = verify(links, head=newest)
        if verdict.fault is None and head is not None:
            verdict = verify(links, head=head)
    if verdict.fault is not None:
        words = "{name}: record {n} {what}"
        click.echo(say(words, name=name, n=verdict.fault.n, what=verdict.fault.what), err=True)
        return 1
    if not verdict.last:
        click.echo(say("{name}: there is no record", name=name))
        return 0
    words = "{name}: records {first} to {last} are whole; head {hash}"
    click.echo(say(words, name=name, first=verdict.first, last=verdict.last, hash=verdict.hash))
    return 0


def _links(source: Source) -> Iterator[Link]:
    """Return all audit records in their chain, oldest first."""
    after = 0
    while found := source.audit_chain(after=after, limit=_PAGE_RECORDS):
        yield from (Link(each.n, each.hash, record_text(each.record)) for each in found)
        after = found[-1].n
