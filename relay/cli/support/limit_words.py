"""Limits in words: where one comes from, how sure it is, and how to adopt it."""

from relay.cli.support import human
from relay.cli.support.output import printable
from relay.cli.words.sentences import say
from relay.views.limit_view import LimitView, QuotaView, UnderneathView
from relay.views.platform import PlatformView
from relay.views.queue import QuotaUse

_NEW_S = 86400.0  # a day, so that every shift sees it


def rate(quota: QuotaUse) -> str:
    """Return a quota's window as the configuration writes it: ``100/min``."""
    return f"{quota.limit}{counted(quota)}/{quota.calendar or human.window(quota.window_s)}"


def counted(quota: QuotaUse) -> str:
    """Return what a window counts, where it is not requests: `` items``."""
    return "" if quota.unit == "requests" else f" {quota.unit}"


def sure(confidence: float | None) -> str:
    """Return ``86 %``; an empty text for what is not estimated. Never 100 %: an estimate is never proven."""
    return "" if confidence is None else f"{min(99, int(confidence * 100))} %"


def origin(quota: QuotaView) -> str:
    """Return where a window's limit comes from: ``configured``, ``configured (quota wechat-app)``, ``learned``."""
    source, name = quota.source, quota.quota
    if quota.group:
        return say("{source} (group {group})", source=say(source), group=printable(quota.group))
    if source == "configured" and ":" not in name:
        return say("{source} (quota {name})", source=say(source), name=name)
    return say(source)


def certainty(quota: QuotaView, learned: LimitView | None) -> str:
    """Return how sure a learned window is, or ``trying`` for a step beyond it; empty for any other window."""
    if not learned or not quota.source == learned.source == "learned" or quota.group != learned.group:
        return ""
    return say("trying") if rate(quota) == learned.trying else sure(learned.confidence)


def fullest(platform: PlatformView) -> str:
    """Return the window with the fewest free slots. ``note`` says where a limit comes from that is not configured."""
    quotas = platform.quotas
    if not quotas:
        return "-"
    quota = max(quotas, key=lambda quota: quota.used / quota.limit)
    return f"{quota.used}/{quota.limit}{counted(quota)} {quota.calendar or human.window(quota.window_s)}"


def believed(learned: LimitView | UnderneathView) -> str:
    """Return the learned rates: ``10/s and 100/min``."""
    return say(" and ").join(each.text for each in learned.rates)


def is_adopted(platform: PlatformView, learned: LimitView) -> bool:
    """Return whether the configuration has a limit at least as tight for each learned window."""
    written = [quota for quota in platform.quotas if quota.source == "configured"]
    return all(
        any(quota.window_s == each.window_s and quota.limit <= each.limit for quota in written)
        for each in learned.rates
    )


def to_adopt(name: str, learned: LimitView) -> str:
    """Return what to write into the configuration, and where. A limit of each group becomes a quota per group."""
    if not learned.yaml:
        return say("nothing: it is only the pace at which requests got through")
    if not learned.group:
        return say("{line} (under platforms: {name}, then: relay reload)", line=learned.yaml, name=name)
    rates = learned.yaml.removeprefix("rate: ")
    quota = f"{name}-groups"
    shared = f"quotas: {{{quota}: {{rate: {rates}, per: group}}}}"
    return say("{shared}, and under platforms: {name}, quotas: [{quota}]", shared=shared, name=name, quota=quota)


def used_by_others(platform: PlatformView) -> str:
    """Return how much of which limit others than the relay use; empty where they use nothing."""
    quota = max(platform.quotas, key=lambda quota: quota.uses.external / quota.limit, default=None)
    if quota is None or not quota.uses.external:
        return ""
    words = "{name}: others use {count} of {rate}"
    return say(words, name=platform.name, count=quota.uses.external, rate=rate(quota))


def not_known(platform: PlatformView, now: float) -> str:
    """Return which window counts as used up because what was sent in it is not known; empty where none does."""
    quota = max((each for each in platform.quotas if each.unknown), key=lambda each: each.free_at or 0.0, default=None)
    if quota is None:
        return ""
    words = (
        "{name}: all of {rate} counts as used until {when}: what was sent is not known, after a failover of the store "
        "that lost it or a damage of the file (docs/hosts.md)"
    )
    return say(words, name=platform.name, rate=rate(quota), when=human.moment(quota.free_at, now=now))


def note(platform: PlatformView, now: float) -> str:
    """Return the line below the table about a limit that no configuration has; empty without one."""
    learned, name = platform.learned_limit, platform.name
    if learned is None or not learned.rates:
        return ""
    if learned.source == "operator":
        until = say(" until {when}", when=human.moment(learned.until, now=now)) if learned.until else ""
        why = say(": {reason}", reason=printable(learned.reason)) if learned.reason else ""
        words = "{name}: an operator set {rates}{until}{why}"
        return say(words, name=name, rates=believed(learned), until=until, why=why)
    if learned.source != "learned" or is_adopted(platform, learned):
        return ""
    adopt = say('adopt "{line}" (relay limit {name})', line=learned.yaml, name=name)
    if not learned.yaml:
        adopt = say("why: relay limit {name}", name=name)
    elif learned.group:  # the line for one platform would hold all groups together under the limit of one
        words = "of group {group}; what to adopt: relay limit {name}"
        adopt = say(words, group=printable(learned.group), name=name)
    told = {"name": name, "rates": believed(learned), "sure": sure(learned.confidence), "adopt": adopt}
    if not learned.enforced:
        return say("{name}: not enforced: {rates}, {sure} sure; {adopt}", **told)
    since = learned.since or now
    when = f" {human.distance(since, now=now)}" if now - since <= _NEW_S else ""
    trying = say(", trying {rate}", rate=learned.trying) if learned.trying else ""
    return say("{name}: {rates} learned{when}, {sure} sure{trying}; {adopt}", **told, when=when, trying=trying)
