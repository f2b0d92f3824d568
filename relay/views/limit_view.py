"""The limits that hold a platform, as operators see them."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import Instant, told
from relay.views.queue import QuotaUse


class QuotaView(QuotaUse, frozen=True, kw_only=True):
    """One window of a quota. ``used`` counts against the limit and is never above it."""

    sent: Annotated[
        int,
        told("requests sent in the window: above the limit where it was lowered meanwhile or a step beyond was tried"),
    ]
    source: Annotated[str, told("where the limit comes from: configured, learned, declared, operator")]
    group: Annotated[str, told("the group whose limit it is; empty for the whole platform")]


class RateView(Struct, frozen=True):
    """At most so many requests in any window."""

    limit: Annotated[int, told("requests")]
    window_s: Annotated[float, told("length of the window in seconds")]
    text: Annotated[str, told("as the configuration writes it: 100/min")]


class EvidenceView(Struct, frozen=True, kw_only=True):
    """Why a limit is believed. What is not known is left out."""

    sentence: Annotated[str, told("in words")] = ""
    accepted: Annotated[int | UnsetType, told("requests that were accepted")] = UNSET
    refused: Annotated[int | UnsetType, told("requests that were refused")] = UNSET
    closures: Annotated[int | UnsetType, told("stretches of refusals")] = UNSET
    since: Annotated[Instant | UnsetType, told("since when it is believed")] = UNSET
    clean_windows: Annotated[int | UnsetType, told("windows that were used up without a refusal")] = UNSET
    window_between_s: Annotated[list[float] | UnsetType, told("shortest and longest window that fits, in seconds")] = (
        UNSET
    )
    next_try_at: Annotated[Instant | UnsetType | None, told("when a little more is tried")] = UNSET


class UnderneathView(Struct, frozen=True):
    """What holds again once an operator's limit has ended."""

    source: Annotated[str, told("learned, declared or none")]
    rates: Annotated[list[RateView], told("the limits; empty for none")]
    confidence: Annotated[float | None, told("how sure it is, 0 to 1")]


class LimitView(Struct, frozen=True, kw_only=True):
    """A limit that no configuration holds: learned from refusals, declared by the platform, or set by an operator.

    Of several groups the one that holds least is told of.
    """

    mode: Annotated[str, told("learn_limit of the platform: enforce, observe, off")] = "enforce"
    source: Annotated[str, told("where the rates come from: learned, declared, operator, none")] = "none"
    rates: Annotated[list[RateView], told("the limits; empty while nothing is believed")] = []
    enforced: Annotated[bool, told("whether they hold")] = False
    trying: Annotated[str | None, told("a careful step beyond them that is under way, such as 110/min")] = None
    family: Annotated[str, told("the kind of window that explains what was seen: sliding, fixed, ...")] = ""
    confidence: Annotated[float | None, told("how sure it is, 0 to 1; null for an operator's")] = None
    evidence: Annotated[EvidenceView, told("why it is believed")] = EvidenceView()
    since: Annotated[Instant | None, told("since when it is believed")] = None
    until: Annotated[Instant | None, told("when an operator's limit ends; null: when it is forgotten")] = None
    reason: Annotated[str, told("why an operator set it")] = ""
    after: Annotated[UnderneathView | None, told("what holds once an operator's limit has ended")] = None
    yaml: Annotated[str, told("the line that states what was learned; empty: nothing to write")] = ""
    group: Annotated[str, told("the group told of; empty for the whole platform")] = ""
    groups: Annotated[int, told("how many groups have a limit of their own")] = 0
