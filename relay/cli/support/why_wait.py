"""Why a callback waits, as one plain sentence: from the ``waiting`` of ``GET /v1/callbacks/{id}``."""

from collections.abc import Callable

from relay.cli.support import limit_words
from relay.policy.gate.stop import NOTHING_LEFT
from relay.views.moments import Instant
from relay.views.waiting import HoldingLimitView, WaitingView


def sentence(waiting: WaitingView, *, platform: str) -> str:
    """Return what the callback waits for; ``until_of`` has the time."""
    told = _TOLD.get(waiting.word)
    return told(waiting, platform) if told is not None else f"it waits for {waiting.word}"


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


def to_do(waiting: WaitingView, *, platform: str) -> str:
    """Return the command with which a person ends the wait; empty if there is only waiting."""
    if behind := waiting.behind:
        if behind.state != "pending":
            return f"relay dead retry {behind.id} (or: relay dead drop {behind.id})"
        return to_do(behind.waiting, platform=platform) if behind.waiting else ""
    if waiting.word == "paused":
        if waiting.removed:
            return f"put platforms.{platform} back into the file and: relay reload (or drop what waits for it)"
        return f"relay resume {platform}{f' --group {waiting.group}' if waiting.group else ''}"
    if waiting.word == "key paused":
        return f"relay resume {platform} --key KEY"
    if is_storm(waiting):
        return f"mend the cause (URL, credentials, classify rules), then: relay resume {platform}, which probes at once"
    if waiting.word in ("breaker", "backoff", "throttled"):
        stop = "every stop" if waiting.group else "the stop"
        return f"relay resume {platform} ends {stop}: what waits, also what was refused, is tried at once"
    if waiting.word == "retry":
        return f"relay resume {platform} tries it at once, and all else there that waits for its retry time"
    if waiting.word == "confirmation":
        return "relay resolve ID --as delivered (or retry, dead) once you know"
    if waiting.word == "limit" and waiting.limit and waiting.limit.source in ("learned", "declared", "operator"):
        return f"relay limit {platform} tells more, and changes it"
    return ""


def _because(waiting: WaitingView) -> str:
    return f" ({waiting.reason})" if waiting.reason else ""


def _limit_of(limit: HoldingLimitView) -> str:
    if limit.tried:
        return f"the limit {limit.rate}, a step beyond the learned one that is being tried"
    confidence = limit_words.sure(limit.confidence)
    whose = {
        "learned": f"the learned limit {limit.rate}" + (f" ({confidence} sure)" if confidence else ""),
        "declared": f"the limit {limit.rate} that the platform declares",
        "operator": f"the limit {limit.rate} that an operator set",
    }
    shared = f" of quota {limit.quota}" if ":" not in limit.quota else ""
    return whose.get(limit.source, f"the configured limit {limit.rate}{shared}")


def _limit(waiting: WaitingView, platform: str) -> str:
    if not waiting.limit:
        return "it waits for a slot: all requests that the limit allows are used"
    group = f" for group {waiting.group}" if waiting.group else ""
    return f"it waits for a slot of {_limit_of(waiting.limit)}{group}"


def _pace(waiting: WaitingView, platform: str) -> str:
    over = f" of {_limit_of(waiting.limit)}" if waiting.limit else ""
    return f"it waits for the pace: requests are spread over the window{over}"


def _paused(waiting: WaitingView, platform: str) -> str:
    if waiting.removed:
        return f"nothing sends it: {platform} is no longer in the configuration"
    what = f"group {waiting.group} of {platform}" if waiting.group else platform
    return f"an operator paused {what}{_because(waiting)}"


def _behind(waiting: WaitingView, platform: str) -> str:
    first = waiting.behind
    if not first:
        return "it waits for an earlier callback of its key: they go one after the other"
    if first.state != "pending":
        why = f" ({first.reason})" if first.reason else ""
        return f"it goes after {first.id} of its key, which is {first.state}{why} and blocks it (on_dead: block)"
    what = sentence(first.waiting or WaitingView(word="slot"), platform=platform)
    if what.startswith("it "):
        what = f"that one {what.removeprefix('it ')}"
    return f"it goes after {first.id}, an earlier callback of its key; {what}"


def _throttled(waiting: WaitingView, platform: str) -> str:
    who = f"group {waiting.group} of {platform}" if waiting.group else platform
    if waiting.reason == NOTHING_LEFT:
        return f"{who} is held back: its last answer said that nothing is left of its limit"
    return f"{who} asked to be left alone{_because(waiting)}"


def is_storm(waiting: WaitingView) -> bool:
    """Return whether the breaker is open because everything was refused (a storm), and not because of failures."""
    return waiting.word == "breaker" and (waiting.reason or "").startswith("storm: ")


def _breaker(waiting: WaitingView, platform: str) -> str:
    if is_storm(waiting):
        cause = (waiting.reason or "").removeprefix("storm: ")
        return (
            f"{platform} is in a storm ({cause}): batch after batch was wholly refused or not recognised, and nothing "
            "accepted between, so the rest is kept from the same end; one real batch probes it from time to time, and "
            "the first one accepted ends it"
        )
    return f"{platform} is left alone{_because(waiting)} until one batch probes it"


def _held(waiting: WaitingView, platform: str) -> str:
    if waiting.reason == "sealed: does not open":
        return (
            "its sealed payload does not open (changed, moved, or another key), so it is held for a person and not sent"
        )
    return f"the answer was not recognised{_because(waiting)}, so it is held for a person"


def _backoff(waiting: WaitingView, platform: str) -> str:
    if waiting.reason and waiting.reason.startswith("stopped: "):
        return f"{platform} stands still: {waiting.reason.removeprefix('stopped: ')}"
    return f"{platform} could not be used{_because(waiting)}; it is tried again soon"


_TOLD: dict[str, Callable[[WaitingView, str], str]] = {
    "answer": lambda waiting, platform: "a request with it is under way",
    "confirmation": _held,
    "paused": _paused,
    "earlier callback of its key": _behind,
    "breaker": _breaker,
    "backoff": _backoff,
    "throttled": _throttled,
    "retry": lambda waiting, platform: f"its last attempt failed{_because(waiting)} and it backs off",
    "hours": lambda waiting, platform: f"{platform} is outside its sending hours{_because(waiting)}",
    "key paused": lambda waiting, platform: f"an operator holds its ordering key back{_because(waiting)}",
    "not before": lambda waiting, platform: "it was posted with a time before which it must not go (Relay-Not-Before)",
    "quiet": lambda waiting, platform: "it waits until nothing newer of its key comes for a while (coalesce.quiet)",
    "limit": _limit,
    "pace": _pace,
    "linger": lambda waiting, platform: "it waits for others to fill its batch (batch.linger)",
    "share": lambda waiting, platform: "other work has its turn at the limit",
    "concurrency": lambda waiting, platform: f"as many requests as allowed are under way{_because(waiting)}",
    "store": lambda waiting, platform: "the store could not commit; it is tried again every second",
    "owner": lambda waiting, platform: "no host is sure to own its platform now; one is within 20 s",
    "slot": lambda waiting, platform: "nothing holds it back: it goes with one of the next requests",
    "the daemon to run": lambda waiting, platform: "the relay is not running",
}
