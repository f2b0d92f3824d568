"""``relay limit``: shows the limits of a platform and where each comes from; sets an operator's own limit."""

import click
from msgspec import UNSET

from relay.cli.support import human, limit_words
from relay.cli.support.client import segment
from relay.cli.support.locate import locate, place_options
from relay.cli.support.output import Row, aligned, output_option, print_record, print_rows
from relay.cli.words.daemon_words import heard
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.core.plural import count
from relay.views.limit_view import EvidenceView, LimitView, QuotaView
from relay.views.moments import plain
from relay.views.platform import PlatformView

_COLUMNS = ("limit", "from", "used", "next slot")
_SHOWN = ("name", "state", "reason", "quotas", "learned_limit")


@click.command()
@click.argument("platform")
@click.argument("rates", metavar="[RATE]...", nargs=-1)
@click.option(
    "--for", "for_", metavar="TIME", help="With RATE: how long it holds, such as 2h. Default: until --forget."
)
@click.option("--forget", is_flag=True, help="Drop your limit and everything that was learned, and learn anew.")
@click.option("--group", help="With RATE or --forget: for this group of the platform alone.")
@click.option("--reason", default="", help="Why you do it. It is kept in the audit record.")
@place_options
@output_option
def limit(
    platform: str,
    rates: tuple[str, ...],
    for_: str | None,
    forget: bool,
    group: str | None,
    reason: str,
    config: str | None,
    admin: str | None,
    output: str,
) -> None:
    """Show the limits of PLATFORM and where each comes from, set one of your own, or forget what was learned.

    Your RATE takes the place of what was learned or declared; what the configuration says holds beside it.

    \b
    relay limit shop-a                   what holds, why, and the line to adopt
    relay limit shop-a 80/min --for 2h   at most 80 a minute, for two hours
    relay limit shop-a 10/s 80/min       both, until you forget them
    relay limit shop-a --forget          their contract changed: find out again
    """
    if forget and (rates or for_):
        raise click.UsageError(say("--forget takes neither RATE nor --for: first forget, then set another one"))
    if for_ and not rates:
        raise click.UsageError(say("--for {span} needs a RATE, such as 80/min", span=for_))
    if reason and not (rates or forget):
        raise click.UsageError(say("--reason belongs to a RATE or --forget; without them limits are only shown"))
    client = locate(config, admin=admin).admin_client()
    path = f"/v1/platforms/{segment(platform)}"
    if group is not None and not (rates or forget):
        raise click.UsageError(say("--group belongs to a RATE or --forget; without them all limits are shown"))
    given = {key: value for key, value in (("for", for_), ("reason", reason), ("group", group)) if value}
    if forget:
        view = client.viewed(PlatformView, client.post(f"{path}/limit", {"forget": True, **given}))
    elif rates:
        view = client.viewed(PlatformView, client.post(f"{path}/limit", {"rate": list(rates), **given}))
    else:
        view = client.view(PlatformView, path)
    if output != "table":
        shown = plain(view)
        print_record({key: shown[key] for key in _SHOWN}, output=output)
    elif forget:
        click.echo(say("{name}: forgotten; {what_now}", name=view.name, what_now=_what_now(view)))
    elif rates and group is not None:
        words = "{name}, group {group}: at most {rates}, beside its other limits"
        click.echo(say(words, name=view.name, group=group, rates=say(" and ").join(rates)))
    elif rates:
        click.echo(f"{view.name}: {_set(view, now=wall_s())}")
    else:
        _show(view, now=wall_s())


def _what_now(view: PlatformView) -> str:
    looks = view.learned_limit is not None and view.learned_limit.mode != "off"
    after = say("limits are learned anew") if looks else say("none is learned (learn_limit: false)")
    return say("{beside}, and {after}", beside=_beside(view), after=after) if _beside(view) else after


def _beside(view: PlatformView) -> str:
    written = [limit_words.rate(quota) for quota in view.quotas if quota.source == "configured"]
    words = "the configured {rates} hold" if len(written) > 1 else "the configured {rates} holds"
    return say(words, rates=say(" and ").join(written)) if written else ""


def _set(view: PlatformView, *, now: float) -> str:
    learned = view.learned_limit
    if learned is None:
        return say("your limit is gone already: it was forgotten meanwhile")
    ends = say("until it is forgotten")
    if learned.until:
        ends = say("until {when}", when=human.moment(learned.until, now=now))
    beside = say("; {beside} too", beside=_beside(view)) if _beside(view) else ""
    return say("at most {rates} {ends}{beside}", rates=limit_words.believed(learned), ends=ends, beside=beside)


def _show(view: PlatformView, *, now: float) -> None:
    if view.quotas:
        rows = [_row(quota, view.learned_limit, now) for quota in view.quotas]
        print_rows(rows, output="table", columns=_COLUMNS, right=("used",))
    else:
        click.echo(say("no limit holds {name} now", name=view.name))
    for line in aligned([(say(name), text) for name, text in _facts(view, now) if text]):
        click.echo(line)


def _row(quota: QuotaView, learned: LimitView | None, now: float) -> Row:
    full = quota.used >= quota.limit
    told = f"{limit_words.origin(quota)} {limit_words.certainty(quota, learned)}"
    return {
        "limit": limit_words.rate(quota),
        "from": told.strip(),
        "used": f"{quota.used}/{quota.limit}",
        "next slot": say("now") if not full else human.moment(quota.free_at, now=now) if quota.free_at else "-",
    }


def _facts(view: PlatformView, now: float) -> list[tuple[str, str]]:
    learned = view.learned_limit
    if learned is None:
        nothing = say("nothing: learn_limit is false")
        if view.removed:
            nothing = say("nothing: it is no longer in the configuration")
        return [("learned", nothing)]
    evidence = learned.evidence
    by_operator, sentence = learned.source == "operator", heard(evidence.sentence)
    adopted = limit_words.is_adopted(view, learned)
    tries = learned.enforced and not (learned.trying or by_operator or adopted)
    next_try = (evidence.next_try_at or None) if tries else None
    return [
        (learned.source if learned.rates else "learned", _belief(learned, now)),
        ("window", learned.family if learned.source == "learned" else ""),
        ("because", learned.reason if by_operator else sentence),
        ("after it", _after(learned) if by_operator else ""),
        ("evidence", sentence if by_operator else ""),
        ("counted", _counted(evidence)),
        ("trying", say("{rate}, one request at a time", rate=learned.trying) if learned.trying else ""),
        ("next try", _next_try(next_try, now)),
        ("groups", _groups(learned.groups)),
        # A declared limit holds without a line in the file. With groups it belongs to each group, not to the platform.
        ("adopt", _adopt(view.name, learned, adopted=adopted) if learned.source == "learned" else ""),
    ]


def _groups(count: int) -> str:
    return say("{count} with a limit of their own; this is the lowest", count=count) if count else ""


def _after(learned: LimitView) -> str:
    """Return which limit holds after an operator's has ended."""
    after = learned.after
    if after is None or not after.rates:
        return say("no limit: none was learned or declared so far")
    group = say(" for group {group}", group=learned.group) if learned.group else ""
    sure = say(", {sure} sure", sure=limit_words.sure(after.confidence)) if after.source == "learned" else ""
    enforced = "" if learned.mode == "enforce" else say(", only observed")
    return f"{limit_words.believed(after)}{group} ({say(after.source)}{sure}{enforced})"


def _next_try(at: float | None, now: float) -> str:
    if not at:
        return ""
    is_due = at <= now
    if is_due:
        return say("a little more, as soon as it goes well again")
    return say("a little more {when}", when=human.moment(at, now=now))


def _adopt(name: str, learned: LimitView, *, adopted: bool) -> str:
    if adopted:
        return say("done: the configuration holds it at least as tightly")
    return limit_words.to_adopt(name, learned)


def _counted(evidence: EvidenceView) -> str:
    if evidence.accepted is UNSET:
        return ""
    words = "{requests} accepted, {refused} refused"
    return say(words, requests=count(evidence.accepted, "request"), n=evidence.accepted, refused=evidence.refused)


def _belief(learned: LimitView, now: float) -> str:
    if not learned.rates:
        return say("nothing so far")
    parts = [limit_words.believed(learned)]
    if learned.group and learned.source != "operator":
        parts[0] += say(" for group {group}", group=learned.group)
    if learned.source == "learned":
        parts.append(say("{sure} sure", sure=limit_words.sure(learned.confidence)))
    if learned.since:
        parts.append(say("since {when}", when=human.moment(learned.since, now=now)))
    if learned.source == "operator":
        until = say("until {when}", when=human.moment(learned.until, now=now)) if learned.until else ""
        parts.append(until or say("until forgotten"))
    if not learned.enforced:
        parts.append(say("only observed: not enforced"))
    return say(", ").join(parts)
