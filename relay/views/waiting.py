"""What a pending callback waits for."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import Instant, told


class HoldingLimitView(Struct, frozen=True, kw_only=True):
    """The limit whose next slot is waited for."""

    rate: Annotated[str, told("as the configuration writes it: 100/min")]
    source: Annotated[str, told("where it comes from: configured, learned, declared, operator")]
    quota: Annotated[str, told("name of the quota")]
    used: Annotated[int, told("slots taken now")]
    confidence: Annotated[float | None, told("how sure a learned one is, 0 to 1; null where nobody estimates")]
    tried: Annotated[bool, told("it is a step beyond what is believed, to see whether the platform allows that")]


class FirstOfKeyView(Struct, frozen=True, kw_only=True):
    """The callback of the same key that must end before this one may go."""

    id: Annotated[str, told("its id")]
    state: Annotated[str, told("pending, or dead where a dead one blocks its key")]
    reason: Annotated[str, told("of its state")]
    waiting: Annotated["WaitingView | UnsetType", told("what it waits for itself; left out when it is dead")] = UNSET


class WaitingView(Struct, frozen=True, kw_only=True, rename={"word": "for"}):
    """What holds a callback back, until when, and the facts behind that. What says nothing is left out."""

    word: Annotated[
        str,
        told(
            "answer, confirmation, paused, earlier callback of its key, breaker, backoff, throttled, retry, limit, "
            "hours, not before, quiet, key paused, "
            "pace, linger, share, concurrency, store, owner, slot; offline: the daemon to run"
        ),
    ]
    until: Annotated[Instant | None, told("when that ends; null where nobody knows")] = None
    reason: Annotated[str | UnsetType, told("why")] = UNSET
    group: Annotated[str | UnsetType, told("the group that is held back")] = UNSET
    limit: Annotated[HoldingLimitView | UnsetType, told("the limit it waits for")] = UNSET
    behind: Annotated[FirstOfKeyView | UnsetType, told("the callback of its key that goes first")] = UNSET
    removed: Annotated[bool | UnsetType, told("true: its platform is no longer in the configuration")] = UNSET
