"""``relay doctor``: examines configuration, store and daemon, and recounts the ledger from rows."""

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click
from msgspec import structs

from relay.cli.support.client import Refused, Unreachable
from relay.cli.support.config_file import chosen_file, other_file, problem_text, unread_text
from relay.cli.support.human import size
from relay.cli.support.locate import WHERE, locate
from relay.cli.support.output import output_option, to_json
from relay.cli.support.table import coloured, padded, wrapped
from relay.cli.words.sentences import say
from relay.config.load import load
from relay.config.problems import ConfigInvalid
from relay.config.schema.file import Config
from relay.core.errors import StoreError
from relay.core.model import UNROUTED
from relay.core.plural import count
from relay.sealing.master_keys import KeysUnavailable
from relay.views.configuration import ConfigView
from relay.views.hosts import HostPage
from relay.views.ledger import NO_TOTALS, LedgerView, QueueTotals
from relay.views.queue import StoreSize
from relay.views.sealing_view import KeysView

_OLD_WAL = (
    "{path} was put there after its -wal was written, as by restoring a backup, and the next start mixes both: if you "
    "restored it, remove {path}-wal and {path}-shm and copy the backup again; if the machine went down, leave them"
)
_NEARLY_FULL = 0.9  # of what posts may use
_LOW_DISK = 256 * 1024 * 1024  # with less free space a burst of callbacks may not fit


class Diagnosis(NamedTuple):
    """One thing that was examined. ``state`` is ok, warn or fail."""

    state: str
    what: str
    detail: str


@click.command()
@click.option("-c", "--config", "option", metavar="FILE", help=f"The configuration. Default: {WHERE}.")
@click.option(
    "--salvage",
    is_flag=True,
    help="Of a damaged store, with the daemon down: make a new one of what can be read, and report the rest.",
)
@click.option("--yes", is_flag=True, help="With --salvage: do not ask.")
@output_option
def doctor(option: str | None, salvage: bool, yes: bool, output: str) -> int:
    """Examine configuration, store and daemon; recount the ledger from rows.

    Reads the whole store; writes nothing, but for what --salvage asks for. Works with the daemon up or down. Exit code
    1 when something is wrong.
    """
    if salvage:
        from relay.cli.commands.keeping.salvage import salvage_store

        salvage_store(chosen_file(option), yes=yes, output=output)
        return 0
    findings = list(_examine(chosen_file(option)))
    if output == "table":
        for finding in findings:
            word, space, name = finding.what.partition(" ")
            what = padded(f"{say(word)}{space}{name}", 14)
            first, *further = wrapped(f"{finding.state:<5} {what} {finding.detail}", indent=21)
            click.echo(coloured(finding.state, width=5) + first[5:])
            for line in further:
                click.echo(line)
    else:
        told = [finding._asdict() for finding in findings]
        click.echo(to_json(told, indent=2) if output == "json" else "\n".join(to_json(each) for each in told))
    return int(any(finding.state == "fail" for finding in findings))


def _examine(file: str) -> Iterator[Diagnosis]:
    try:
        config = load(file, for_service=True)
    except ConfigInvalid as invalid:
        for problem in invalid.problems:
            yield Diagnosis("fail", "configuration", problem_text(problem))
        return
    number = len(config.destinations)
    told = say("{file}: {platforms}", file=file, platforms=count(number, "platform"), n=number)
    yield Diagnosis("ok", "configuration", told)
    for warning in config.warnings:
        yield Diagnosis("warn", "configuration", problem_text(warning))
    if unread := unread_text(config):
        yield Diagnosis("ok", "secrets", unread)
    daemon = _daemon(file)
    yield daemon.told
    down = daemon.down
    if config.server is None:
        yield from _store(config, down=down)
        return
    yield from _server(config)
    yield from _history(config)
    yield from _left_behind(config)
    if down:
        yield from _spool(config)
    else:
        yield from _hosts(file)


class _Reached(NamedTuple):
    told: Diagnosis
    down: bool


def _daemon(file: str) -> _Reached:
    place = locate(file)
    address = place.admin
    try:
        answer = place.admin_client().get("/readyz")
    except Unreachable:
        told = say("not reachable at {address}; what follows is read from the file", address=address)
        told += place.admin_hint()
        return _Reached(Diagnosis("warn", "daemon", told), down=True)
    except Refused as refused:
        return _Reached(Diagnosis("fail", "daemon", say("not ready: {why}", why=refused)), down=False)
    if answer.get("status") == "degraded":
        told = say("ready at {address}, but {reasons}", address=address, reasons="; ".join(answer["reasons"]))
        return _Reached(Diagnosis("warn", "daemon", told), down=False)
    if (file_there := _file_in_force(file)) and other_file(file_there, file):
        words = "ready at {address}, but it has {file} in force and not this one, so it may have another store"
        return _Reached(Diagnosis("warn", "daemon", say(words, address=address, file=file_there)), down=False)
    return _Reached(Diagnosis("ok", "daemon", say("ready at {address}", address=address)), down=False)


def _file_in_force(file: str) -> str:
    """Return which file the daemon has in force; empty where this user may not know."""
    try:
        return locate(file).admin_client().view(ConfigView, "/v1/config").file
    except (Refused, Unreachable):
        return ""


def _server(config: Config) -> Iterator[Diagnosis]:
    """Say what is wrong with the server that holds the shared store."""
    from relay.daemon.shared_store import examined  # loads the server's client
    from relay.daemon.stores import shown_store

    try:
        facts = asyncio.run(examined(config))
    except StoreError as error:
        yield Diagnosis("fail", "store", str(error))
        return
    version = ".".join(map(str, facts.version))
    for fault in facts.faults:
        yield Diagnosis("fail" if fault.fatal else "warn", "store", fault.text)
    if not facts.faults:
        words = "{store}, version {version}: keeps what it answers"
        yield Diagnosis("ok", "store", say(words, store=shown_store(config), version=version))


def _history(config: Config) -> Iterator[Diagnosis]:
    """Examine the history file of this host."""
    from relay.daemon.stores import key_source, open_reader  # loads the store's library

    path, wanted = config.history_path, config.store.keep.history is not None
    try:
        if not path.exists():
            return
        if not wanted:
            words = (
                "{path} holds what an earlier start kept, and nothing leaves it while store.keep.history is not set: "
                "set it, or remove the file"
            )
            yield Diagnosis("warn", "history", say(words, path=path))
            return
        reader = open_reader(f"sqlite:{path}", key_source(config))
    except PermissionError:
        told = say("{path} is for the service and root, so it was not examined: try sudo", path=path)
        yield Diagnosis("warn", "history", told)
        return
    except (StoreError, KeysUnavailable, OSError) as error:
        yield Diagnosis("fail", "history", str(error).replace("store.url", "store.spool.path"))  # it lies beside that
        return
    try:
        file = _file(path)._replace(what="history")
        if damage := reader.damage():
            words = "{damage}; with the daemon down: relay restore --history BACKUP, or move the file away"
            yield Diagnosis("fail", "history", say(words, damage="; ".join(damage)))
        else:
            held = reader.finals()
            yield file._replace(detail=f"{file.detail}; {count(held, 'callback')}")
        yield from (each._replace(what="history") for each in _sealing(reader.keys(), config))
    finally:
        reader.close()


def _spool(config: Config) -> Iterator[Diagnosis]:
    """Say what waits in the spool of this host, whose daemon is down, and what of it cannot be brought in."""
    from relay.store.redis.spool.closed_spool import aside_in, left_in

    path = config.store_path
    try:
        waiting, aside = left_in(path), aside_in(path)
    except StoreError as error:
        yield Diagnosis("fail", "spool", str(error))
        return
    if waiting:
        words = "{path}: {posts} wait for the next start"
        yield Diagnosis("ok", "spool", say(words, path=path, posts=count(waiting, "post"), n=waiting))
    for number, why in aside.items():
        words = "{path}: post {number} cannot be brought into the store ({why}); the order center posts it again"
        yield Diagnosis("warn", "spool", say(words, path=path, number=number, why=why))


def _left_behind(config: Config) -> Iterator[Diagnosis]:
    """Say what still waits in the file that was the store before ``store.url`` named a server."""
    from relay.daemon.stores import open_reader  # loads the store's library

    path = config.default_store_path
    try:
        if not path.exists():
            return
        reader = open_reader(f"sqlite:{path}")
    except (StoreError, OSError) as error:
        yield Diagnosis("warn", "store", str(error))
        return
    try:
        pending = sum(told.pending for told in reader.totals().values())
    finally:
        reader.close()
    if pending:
        words = (
            "{path} holds {callbacks} pending, and this relay does not send them: pause the platforms here, and run a "
            "relay with store.url: sqlite:{path} until they are sent; relay store copy moves a store before its first "
            "start"
        )
        told = say(words, path=path, callbacks=count(pending, "callback"), n=pending)
        yield Diagnosis("warn", "store", told)


def _hosts(file: str) -> Iterator[Diagnosis]:
    """Say how the hosts that share the store stand, and whether their ledger adds up."""
    client = locate(file).admin_client()
    try:
        page = client.view(HostPage, "/v1/hosts")
        total = client.view(LedgerView, "/v1/ledger").total
    except (Refused, Unreachable) as error:
        yield Diagnosis("warn", "hosts", say("not known: {why}", why=error))
        return
    for host in page.items:
        number = len(host.platforms)
        words = "{name}: {state}, sends for {platforms}"
        told = say(words, name=host.name, state=host.state, platforms=count(number, "platform"), n=number)
        if host.state == "mismatch":
            words = "; its file is not the one in force, published by {by}: relay reload there"
            told += say(words, by=page.published_by)
        yield Diagnosis("ok" if host.state in ("owning", "accepting") else "warn", "hosts", told)
    if page.unowned:
        told = say("no host sends for {names} now; one does within 20 s", names=", ".join(page.unowned))
        yield Diagnosis("warn", "hosts", told)
    words = "{accepted} accepted, {pending} pending, {unaccounted} unaccounted for"
    ends = say(words, accepted=total.accepted, pending=total.pending, unaccounted=total.unaccounted)
    yield Diagnosis("fail" if total.unaccounted else "ok", "ledger", ends)


def _store(config: Config, *, down: bool) -> Iterator[Diagnosis]:
    from relay.daemon.stores import key_source, lies_on_old_wal, open_reader  # loads the store's library

    path = config.store_path
    try:
        if down and lies_on_old_wal(f"sqlite:{path}"):
            yield Diagnosis("warn", "restored", say(_OLD_WAL, path=path))
        reader = open_reader(f"sqlite:{path}", key_source(config))
    except PermissionError:
        told = say("{path} is for the service and root, so it was not examined: try sudo", path=path)
        yield Diagnosis("warn", "store", told)
        return
    except (StoreError, KeysUnavailable, OSError) as error:
        yield Diagnosis("fail", "store", str(error))
        return
    try:
        yield _file(path)
        yield _room(reader.room(config.store.max_size))
        damage = reader.damage()
        if damage:
            words = (
                "{damage}; with the daemon down: relay restore BACKUP, or relay doctor --salvage takes what can be read"
            )
            yield Diagnosis("fail", "integrity", say(words, damage="; ".join(damage)))
            return
        yield _sound(checked=reader.has_checksums())
        yield from _sealing(reader.keys(), config)
        totals, recount = reader.ledger_and_recount()
        yield from _ledger(totals, recount)
        yield from _stranded(totals, config)
    finally:
        reader.close()


def _sound(*, checked: bool) -> Diagnosis:
    if checked:
        return Diagnosis("ok", "integrity", say("every page and index is sound"))
    words = "pages and indexes are sound, but pages have no checksums: relay backup, then relay restore, gives them"
    return Diagnosis("warn", "integrity", say(words))


def _sealing(keys: KeysView, config: Config) -> Iterator[Diagnosis]:
    """Tell what the store is sealed with; nothing where it is not and nobody asked for it."""
    wanted = config.privacy.encrypt is not None
    if keys.state == "off":
        if wanted:
            told = say("not yet: privacy.encrypt takes effect with the next start or reload")
            yield Diagnosis("warn", "sealed", told)
        return
    in_force = next((key.id for key in keys.keys if key.in_force), say("a key that is not read here"))
    told = say("with {key}, {data_keys}", key=in_force, data_keys=count(keys.data_keys, "data key"), n=keys.data_keys)
    if keys.state == "sealing":
        left = count(keys.to_seal, "callback")
        told += say("; in plain still: {callbacks}, being sealed", callbacks=left, n=keys.to_seal)
        yield Diagnosis("warn", "sealed", told)
    else:
        yield Diagnosis("ok", "sealed", told)


def _room(room: StoreSize) -> Diagnosis:
    used, usable = room.used_bytes, room.usable_bytes
    words = "{used} used of {usable} that posts may use ({part})"
    told = say(words, used=size(used), usable=size(usable), part=f"{used / usable:.0%}")
    remedy = say("deliver or drop dead letters, or raise store.max_size")
    if room.full:
        words = "{told}: full, posts are refused as store_full; {remedy}"
        return Diagnosis("fail", "room", say(words, told=told, remedy=remedy))
    if used > usable * _NEARLY_FULL:
        words = "{told}: large posts may be refused as store_full already; {remedy}"
        return Diagnosis("warn", "room", say(words, told=told, remedy=remedy))
    return Diagnosis("ok", "room", told)


def _file(path: Path) -> Diagnosis:
    about = path.stat()
    free = shutil.disk_usage(path.parent).free
    words = "{path}: {size} on the disk, {free} free there"
    told = say(words, path=path, size=size(about.st_size), free=size(free))
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        told += say("; mode {mode} lets others read it: chmod 600 {path}", mode=f"{mode:o}", path=path)
        return Diagnosis("fail", "store", told)
    if about.st_uid != os.geteuid() and os.geteuid() != 0:
        return Diagnosis("warn", "store", told + say("; it belongs to another user"))
    return Diagnosis("warn" if free < _LOW_DISK else "ok", "store", told)


def _stranded(totals: Mapping[str, QueueTotals], config: Config) -> Iterator[Diagnosis]:
    for name, told in totals.items():
        if told.pending and name not in config.platforms and name != UNROUTED:
            words = (
                "{count} callbacks wait and it is no longer configured, so nothing sends them: put it back and relay "
                'reload, or POST /v1/operations {{"action": "drop", ...}}'
            )
            yield Diagnosis("warn", f"platform {name}", say(words, count=told.pending))


def _ledger(totals: Mapping[str, QueueTotals], recount: Mapping[str, QueueTotals]) -> Iterator[Diagnosis]:
    for name, told in totals.items():
        counts, found = structs.asdict(told), structs.asdict(recount.get(name, NO_TOTALS))
        wrong = [
            say("{word} {count}, rows say {rows}", word=word, count=count, rows=found[word])
            for word, count in counts.items()
            if count != found[word]
        ]
        if wrong:
            yield Diagnosis("fail", f"ledger {name}", "; ".join(wrong))
        else:
            ends = ", ".join(f"{count} {word}" for word, count in counts.items() if word != "accepted")
            words = "{accepted} accepted = {ends}; recounted from rows"
            yield Diagnosis("ok", f"ledger {name}", say(words, accepted=told.accepted, ends=ends))
