"""Why a callback waits, as one plain sentence: from the ``waiting`` of ``GET /v1/callbacks/{id}``."""

from collections.abc import Callable

from relay.cli.support import limit_words
from relay.cli.words.daemon_words import heard
from relay.cli.words.sentences import say
from relay.policy.gate.stop import NOTHING_LEFT
from relay.views.moments import Instant
from relay.views.waiting import HoldingLimitView, WaitingView


def sentence(waiting: WaitingView, *, platform: str) -> str:
    """Return what the callback waits for; ``until_of`` has the time."""
    if plain := _PLAIN.get(waiting.word):
        return say(plain, platform=platform, because=_because(waiting))
    told = _TOLD.get(waiting.word)
    return told(waiting, platform) if told is not None else say("it waits for {what}", what=waiting.word)


def until_of(waiting: WaitingView) -> Instant | None:
    """Return when the wait ends, if that is known. In a queue that is when the wait of the first one ends."""
    first = _first(waiting)
    return waiting.until or (None if first is None else first.until)


_FOR_MANY = ("hours", "limit", "share", "pace", "concurrency", "slot", "throttled", "breaker", "backoff")


def is_for_many(waiting: WaitingView) -> bool:
    """Return whether the end of the wait lets the platform's next callback go, which may be another one."""
    return (_first(waiting) or waiting).word in _FOR_MANY


def _first(waiting: WaitingView) -> WaitingView | None:
    """Return what the callback waits for that goes first, where one does and is pending."""
    return (waiting.behind.waiting or None) if waiting.behind else None


def to_do(waiting: WaitingView, *, platform: str, callback: str) -> str:
    """Return the command with which a person ends the wait; empty if there is only waiting."""
    if behind := waiting.behind:
        if behind.state != "pending":
            return say("relay dead retry {id} (or: relay dead drop {id})", id=behind.id)
        return to_do(behind.waiting, platform=platform, callback=behind.id) if behind.waiting else ""
    if waiting.word == "paused":
        if waiting.removed:
            words = "put platforms.{platform} back into the file and: relay reload (or drop what waits for it)"
            return say(words, platform=platform)
        return f"relay resume {platform}{f' --group {waiting.group}' if waiting.group else ''}"
    if waiting.word == "key paused":
        return f"relay resume {platform} --key KEY"
    if is_storm(waiting):
        return say(
            "mend the cause (URL, credentials, classify rules), then: relay resume {platform}, which probes at once",
            platform=platform,
        )
    if waiting.word in ("breaker", "backoff", "throttled"):
        words = "relay resume {platform} ends the stop: what waits, also what was refused, is tried at once"
        if waiting.group:
            words = "relay resume {platform} ends every stop: what waits, also what was refused, is tried at once"
        return say(words, platform=platform)
    if waiting.word == "retry":
        words = "relay resume {platform} tries it at once, and all else there that waits for its retry time"
        return say(words, platform=platform)
    if waiting.word == "confirmation":
        return say("relay resolve {id} --as delivered (or retry, dead) once you know", id=callback)
    if waiting.word == "limit" and waiting.limit and waiting.limit.source in ("learned", "declared", "operator"):
        return say("relay limit {platform} tells more, and changes it", platform=platform)
    return ""


def _because(waiting: WaitingView) -> str:
    return say(" ({reason})", reason=heard(waiting.reason)) if waiting.reason else ""


def _limit_of(limit: HoldingLimitView) -> str:
    if limit.tried:
        return say("the limit {rate}, a step beyond the learned one that is being tried", rate=limit.rate)
    confidence = limit_words.sure(limit.confidence)
    sure = say(" ({sure} sure)", sure=confidence) if confidence else ""
    shared = say(" of quota {quota}", quota=limit.quota) if ":" not in limit.quota else ""
    words = _WHOSE[limit.source if limit.source in _WHOSE else ""]
    return say(words, rate=limit.rate, sure=sure, shared=shared)


_WHOSE = {
    "learned": "the learned limit {rate}{sure}",
    "declared": "the limit {rate} that the platform declares",
    "operator": "the limit {rate} that an operator set",
    "": "the configured limit {rate}{shared}",
}


def _limit(waiting: WaitingView, platform: str) -> str:
    if not waiting.limit:
        return say("it waits for a slot: all requests that the limit allows are used")
    group = say(" for group {group}", group=waiting.group) if waiting.group else ""
    return say("it waits for a slot of {limit}{group}", limit=_limit_of(waiting.limit), group=group)


def _pace(waiting: WaitingView, platform: str) -> str:
    over = say(" of {limit}", limit=_limit_of(waiting.limit)) if waiting.limit else ""
    return say("it waits for the pace: requests are spread over the window{over}", over=over)


def _paused(waiting: WaitingView, platform: str) -> str:
    if waiting.removed:
        return say("nothing sends it: {platform} is no longer in the configuration", platform=platform)
    return say("an operator paused {what}{because}", what=_part(waiting, platform), because=_because(waiting))


def _part(waiting: WaitingView, platform: str) -> str:
    """Return the platform, or the group of it that a wait is about."""
    return say("group {group} of {platform}", group=waiting.group, platform=platform) if waiting.group else platform


def _behind(waiting: WaitingView, platform: str) -> str:
    first = waiting.behind
    if not first:
        return say("it waits for an earlier callback of its key: they go one after the other")
    if first.state != "pending":
        why = say(" ({reason})", reason=first.reason) if first.reason else ""
        words = "it goes after {id} of its key, which is {state}{why} and blocks it (on_dead: block)"
        return say(words, id=first.id, state=first.state, why=why)
    what = sentence(first.waiting or WaitingView(word="slot"), platform=platform)
    if what.startswith("it "):
        what = f"that one {what.removeprefix('it ')}"
    return say("it goes after {id}, an earlier callback of its key; {what}", id=first.id, what=what)


def _throttled(waiting: WaitingView, platform: str) -> str:
    who = _part(waiting, platform)
    if waiting.reason == NOTHING_LEFT:
        return say("{who} is held back: its last answer said that nothing is left of its limit", who=who)
    return say("{who} asked to be left alone{because}", who=who, because=_because(waiting))


def is_storm(waiting: WaitingView) -> bool:
    """Return whether the breaker is open because everything was refused (a storm), and not because of failures."""
    return waiting.word == "breaker" and (waiting.reason or "").startswith("storm: ")


def _breaker(waiting: WaitingView, platform: str) -> str:
    if is_storm(waiting):
        cause = (waiting.reason or "").removeprefix("storm: ")
        return say(
            "{platform} is in a storm ({cause}): batch after batch was wholly refused or not recognised, and nothing "
            "accepted between, so the rest is kept from the same end; one real batch probes it from time to time, and "
            "the first one accepted ends it",
            platform=platform,
            cause=cause,
        )
    words = "{platform} is left alone{because} until one batch probes it"
    return say(words, platform=platform, because=_because(waiting))


def _held(waiting: WaitingView, platform: str) -> str:
    if waiting.reason == "sealed: does not open":
        return say(
            "its sealed payload does not open (changed, moved, or another key), so it is held for a person and not sent"
        )
    return say("the answer was not recognised{because}, so it is held for a person", because=_because(waiting))


def _backoff(waiting: WaitingView, platform: str) -> str:
    if waiting.reason and waiting.reason.startswith("stopped: "):
        words = "{platform} stands still: {why}"
        return say(words, platform=platform, why=waiting.reason.removeprefix("stopped: "))
    words = "{platform} could not be used{because}; it is tried again soon"
    return say(words, platform=platform, because=_because(waiting))


_PLAIN = {
    "answer": "a request with it is under way",
    "retry": "its last attempt failed{because} and it backs off",
    "hours": "{platform} is outside its sending hours{because}",
    "key paused": "an operator holds its ordering key back{because}",
    "not before": "it was posted with a time before which it must not go (Relay-Not-Before)",
    "quiet": "it waits until nothing newer of its key comes for a while (coalesce.quiet)",
    "linger": "it waits for others to fill its batch (batch.linger)",
    "share": "other work has its turn at the limit",
    "concurrency": "as many requests as allowed are under way{because}",
    "store": "the store could not commit{because}; it is tried again every second",
    "owner": "no host is sure to own its platform now; one is within 20 s",
    "slot": "nothing holds it back: it goes with one of the next requests",
    "the daemon to run": "the relay is not running",
}
"""What a callback waits for, where one sentence will do."""

_TOLD: dict[str, Callable[[WaitingView, str], str]] = {
    "confirmation": _held,
    "paused": _paused,
    "earlier callback of its key": _behind,
    "breaker": _breaker,
    "backoff": _backoff,
    "throttled": _throttled,
    "limit": _limit,
    "pace": _pace,
}
