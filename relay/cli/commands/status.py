"""``relay status``: one line per platform, the ledger, the store, and a reload that was refused."""

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import click

from relay.cli.support import human, limit_words
from relay.cli.support.client import Unreachable
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import Row, output_option, print_rows, printable, to_json
from relay.cli.support.source import Source, open_source
from relay.cli.support.table import print_wrapped
from relay.cli.words.daemon_words import heard
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.core.plural import count
from relay.views.alerts import AlertView
from relay.views.configuration import RefusedReloadView
from relay.views.hosts import HostPage
from relay.views.ledger import LedgerView, RoomView, TotalsView
from relay.views.moments import plain
from relay.views.past.objective import ObjectiveView, percent
from relay.views.platform import CertificateView, PlatformView

_COLUMNS = ("platform", "state", "in/s", "out/s", "pending", "oldest", "held", "dead", "used", "drained")
_MOST_ALERTS = 3  # in one line of 80 columns
_SOON_DAYS = 14  # as the alert rule `certificate`
_CLEAR = "\x1b[H\x1b[2J"  # home, then erase, in one write: --watch does not flicker


@click.command()
@place_options
@output_option
@click.option("--watch", is_flag=True, help="Show it again and again until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
def status(config: str | None, admin: str | None, output: str, watch: bool, interval: float) -> None:
    """Show every platform's state, rates, queue, limit use and drain time, the ledger, and what alerts fire.

    With --watch it is a live screen, also over SSH; it goes on while the daemon restarts.
    """
    place = locate(config, admin=admin)
    if not watch:
        _show(_read(open_source(place)), output)
        return
    try:
        while True:
            try:
                _show(_read(open_source(place)), output, clear=sys.stdout.isatty())
            except Unreachable as error:  # the daemon restarts: go on watching
                click.echo(str(error), err=True)
            time.sleep(interval)
    except KeyboardInterrupt:
        return


class _Read(NamedTuple):
    platforms: list[PlatformView]
    ledger: LedgerView
    refused_reload: RefusedReloadView | None
    alerts: list[AlertView]
    hosts: HostPage


def _read(source: Source) -> _Read:
    return _Read(source.platforms(), source.ledger(), source.refused_reload(), source.firing(), source.hosts())


def _show(found: _Read, output: str, *, clear: bool = False) -> None:
    platforms, total = found.platforms, found.ledger.total
    if output == "json":
        click.echo(to_json(plain(found._asdict()), indent=2))
        return
    if output == "jsonl":
        print_rows(plain([*platforms, {"ledger": total}]), output=output, columns=())
        return
    if clear:
        click.echo(_CLEAR, nl=False)
    print_rows([_row(each) for each in platforms], output=output, columns=_COLUMNS, right=_COLUMNS[2:8])
    for line in (*notes(platforms), *_totals(found)):
        print_wrapped(line)


def _totals(found: _Read) -> list[str]:
    """Return the lines about the relay as a whole."""
    lines = _away(found.ledger) or [ledger_line(found.ledger.total), *store_line(found.ledger.store).split("\n")]
    if found.alerts:
        lines.append(alerts_line(found.alerts))
    for host in found.hosts.items:
        if host.state == "mismatch":
            words = "HOSTS   config_mismatch: {name} only accepts, in force is the file of {by}"
            lines.append(say(words, name=host.name, by=found.hosts.published_by))
        elif host.state == "gone":
            lines.append(say("HOSTS   {name} is gone", name=host.name))
    if refused := found.refused_reload:
        when = human.moment(refused.at, now=wall_s())
        lines.append(say("CONFIG  reload refused {when}: {todo}", when=when, todo=refused.todo))
    return lines


def _away(ledger: LedgerView) -> list[str]:
    """Return what to know while the server of a shared store is away; nothing while it is there."""
    away, room = ledger.away, ledger.store
    if not away:
        return []
    now = wall_s()
    lines = []
    if away.as_of is None:
        lines.append(say("LEDGER  not known: the store has told this host nothing since its start; PENDING is not all"))
    else:
        when = human.moment(away.as_of, now=now)
        lines.append(ledger_line(ledger.total) + say("; as of {when}, like the table", when=when))
    words = "STORE   away since {when}: nothing is sent; posts go to the spool of this host ({used} of {most}): {posts}"
    spooled = {name: total.spooled for name, total in ledger.platforms.items() if total.spooled}
    told = {"when": human.moment(away.since, now=now), "used": human.size(room.used_bytes)}
    posts = ", ".join(f"{name} {many}" for name, many in spooled.items()) or say("none yet")
    lines.append(say(words, **told, most=human.size(room.max_bytes), posts=posts))
    if room.full:
        lines.append(say("        the spool is full: posts get 503 store_full; raise store.spool.max_size"))
    return lines


def notes(platforms: Sequence[PlatformView]) -> list[str]:
    """Return a line for each thing an operator should know and the table does not say."""
    found = []
    for platform in platforms:
        if platform.reason and platform.state not in ("limited", "unknown"):  # other lines say these
            found.append(_why(platform, wall_s()))
        if stopped := _stopped(platform):
            found.append(stopped)
        if held_back := _held_back(platform):
            found.append(held_back)
        if platform.held:
            words = "{name}: {count} held until an operator resolves them"
            found.append(say(words, name=platform.name, count=platform.held))
        if platform.certificate and platform.certificate.days_left < _SOON_DAYS:
            found.append(_certificate(platform.name, platform.certificate, wall_s()))
        if late := _late(platform):
            found.append(late)
        if platform.objective:
            found.append(_objective(platform.name, platform.objective))
        if others := limit_words.used_by_others(platform):
            found.append(others)
        if not_known := limit_words.not_known(platform, wall_s()):
            found.append(not_known)
        if limit := limit_words.note(platform, wall_s()):
            found.append(limit)
    return found


_UNTIL = {"broken": "; next try {when}", "paused": "; resumes by itself at {when}", "": "; until {when}"}


def _why(platform: PlatformView, now: float) -> str:
    """Return the cause of a state first, then since when and until when."""
    told = f"{platform.name} {platform.state}: {printable(heard(platform.reason))}"
    if platform.since:
        told += say("; since {when}", when=human.moment(platform.since, now=now))
    if platform.until:
        word = _UNTIL[platform.state if platform.state in _UNTIL else ""]
        told += say(word, when=human.moment(platform.until, now=now))
    return told


def _certificate(name: str, certificate: CertificateView, now: float) -> str:
    """Return that a certificate ends soon, whose it is and when."""
    ends = {"name": name, "whose": certificate.whose, "when": human.moment(certificate.ends_at, now=now)}
    if certificate.ends_at > now:
        return say("{name}: a TLS certificate ({whose}) ends {when}", **ends)
    return say("{name}: a TLS certificate ({whose}) has ended {when}", **ends)


def _late(platform: PlatformView) -> str:
    """Return that some callbacks will expire before they can be sent, and what helps; else an empty text."""
    drained_s, expires_s = platform.drain_eta_seconds, platform.expires_seconds
    if not drained_s or not expires_s or drained_s <= expires_s:
        return ""
    return say(
        "{name}: all sent in about {drained}, but callbacks expire after {expires}: raise batch.max_items, rate or "
        "expires, or drop what nobody needs",
        name=platform.name,
        drained=human.duration(drained_s),
        expires=human.duration(expires_s),
    )


def _objective(name: str, kept: ObjectiveView) -> str:
    """Return what part was in time and what is left of what may be late, over an hour and a day."""
    told = say(
        "{name}: {hour} within {within} in 1h, {day} in 24h; {share} is wanted, left of what may be late: {left_hour} "
        "and {left_day}",
        name=name,
        within=human.duration(kept.within_seconds),
        hour=percent(kept.ratio_1h),
        day=percent(kept.ratio_24h),
        share=percent(kept.share),
        left_hour=percent(kept.remaining_1h),
        left_day=percent(kept.remaining_24h),
    )
    return told if not kept.overdue else told + say("; {count} wait and are late already", count=kept.overdue)


def _held_back(platform: PlatformView) -> str:
    """Return which groups an operator paused, and how many single orders are held back; else an empty text."""
    groups = [each.group for each in platform.paused_groups]
    parts = []
    if groups:
        more = say(" and {count} more", count=len(groups) - 3) if len(groups) > 3 else ""
        names = f"{', '.join(groups[:3])}{more}"
        one = say("group {names} paused by an operator", names=names)
        parts.append(one if len(groups) == 1 else say("groups {names} paused by an operator", names=names))
    if platform.keys_held:
        held = count(platform.keys_held, "ordering key")
        parts.append(say("{keys} held back", keys=held, n=platform.keys_held))
    return printable(f"{platform.name}: {'; '.join(parts)}") if parts else ""


def _stopped(platform: PlatformView) -> str:
    """Return how many groups are stopped while others go on, and which one for longest; else an empty text."""
    groups = platform.stopped_groups
    if not groups.count:
        return ""
    longest = groups.items[0]
    who = say("group {group} is stopped", group=longest.group)
    if groups.count > 1:
        who = say("{count} groups are stopped, longest {group}", count=groups.count, group=longest.group)
    until = human.moment(longest.until, now=wall_s())
    words = "{name}: {who} until {when}: {reason}"
    return printable(say(words, name=platform.name, who=who, when=until, reason=heard(longest.reason)))


def ledger_line(total: TotalsView) -> str:
    """Return the ledger as a sum; without ``expired`` and ``superseded`` if these are 0."""
    ends = {"delivered": total.delivered, "pending": total.pending, "dead": total.dead}
    rare = {"expired": total.expired, "superseded": total.superseded}
    ends |= {end: count for end, count in rare.items() if count}
    parts = " + ".join(f"{count} {end}" for end, count in ends.items())
    words = "LEDGER  {accepted} in = {parts} + {unaccounted} unaccounted"
    return say(words, accepted=total.accepted, parts=parts, unaccounted=total.unaccounted)


def alerts_line(firing: Sequence[AlertView]) -> str:
    """Return how many alerts fire and the first of them; `relay alerts` tells what they mean."""
    shown = [f"{each.rule} {each.platform}" if each.platform else each.rule for each in firing[:_MOST_ALERTS]]
    more = say(" and {count} more", count=len(firing) - _MOST_ALERTS) if len(firing) > _MOST_ALERTS else ""
    words = "ALERTS  {count} firing (relay alerts): {names}"
    return printable(say(words, count=len(firing), names=f"{', '.join(shown)}{more}"))


def store_line(store: RoomView) -> str:
    """Return how full the store is. If it is full, also what that means and what helps."""
    used, usable = store.used_bytes, store.usable_bytes
    if not usable:
        return say("STORE   {used}", used=human.size(used))
    words = "STORE   {used} of {usable} ({part}) that posts may use"
    told = say(words, used=human.size(used), usable=human.size(usable), part=f"{used / usable:.0%}")
    if store.full:
        told += say("\n        full: posts get 503 store_full; deliver or drop dead letters, or raise store.max_size")
    return told


def _row(platform: PlatformView) -> Row:
    return {
        "platform": platform.name,
        "state": platform.state,
        "in/s": _per_s(platform.in_per_s),
        "out/s": _per_s(platform.out_per_s),
        "pending": platform.pending,
        "oldest": human.duration(platform.oldest_due_seconds),
        "held": platform.held,
        "dead": platform.dead,
        "used": limit_words.fullest(platform),
        "drained": _drained(platform),
    }


def _drained(platform: PlatformView) -> str:
    if platform.state == "paused":
        return "paused" if platform.until is None else human.clock(platform.until)
    return say("growing") if platform.growing else human.duration(platform.drain_eta_seconds)


def _per_s(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:.1f}".removesuffix(".0") if rate < 100 else f"{rate:.0f}"
