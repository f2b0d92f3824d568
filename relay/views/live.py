"""What only the running delivery knows of a platform, at one moment."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from msgspec import Struct

from relay.views.ledger import QueueTotals
from relay.views.limit_view import LimitView
from relay.views.moments import Instant, told
from relay.views.queue import QueueFacts


class StoppedGroupView(Struct, frozen=True, kw_only=True):
    """A group of a platform that is left alone while the others go on."""

    group: Annotated[str, told("the group")]
    reason: Annotated[str, told("what the platform said")] = ""
    since: Annotated[Instant | None, told("since when")] = None
    until: Annotated[Instant, told("until when nothing is sent for it")]


class PausedGroupView(Struct, frozen=True, kw_only=True):
    """A group of a platform that an operator paused."""

    group: Annotated[str, told("the group")]
    reason: Annotated[str, told("why")] = ""
    since: Annotated[Instant | None, told("since when")] = None
    until: Annotated[Instant | None, told("when it goes on by itself; null: an operator resumes it")] = None


class LiveFacts(Struct, frozen=True, kw_only=True):
    """What goes on at a platform now. Times are on the relay clock; None or 0 for none."""

    removed: bool = False  # it is no longer in the configuration, though callbacks wait for it
    paused: bool = False  # by an operator, or because it was removed
    pause_reason: str = ""
    paused_since: float | None = None
    paused_until: float | None = None  # when the pause ends by itself; None: an operator ends it
    broken: bool = False  # nothing is sent but probes: the breaker is open, it backs off, or its pipeline stopped
    breaker_open: bool = False
    breaker_reason: str = ""
    broken_since: float | None = None
    probe_at: float | None = None  # when it is tried next
    throttled_until: float | None = None  # the platform asked to be left alone until then
    throttled_since: float | None = None
    throttle_reason: str = ""
    hours: str = ""  # its sending hours, where it has some
    opens_at: float | None = None  # when they begin, while they are over
    gather_s: float = 0.0  # the longest that a callback waits for newer ones of its key; 0: none does
    paused_groups: tuple[PausedGroupView, ...] = ()
    stopped_groups: tuple[StoppedGroupView, ...] = ()
    limited_until: float | None = None  # its next slot, where it waits for one
    limited_since: float | None = None  # since when; where it waits for none, when its last slot was taken
    waits_for: str = ""  # what its next request waits for (core.model.WaitUntil.reason); empty: nothing
    waits_until: float | None = None
    in_flight: int = 0  # requests under way
    allowed: int | None = None  # requests that may be under way at once
    last_error: str = ""
    learned_limit: LimitView | None = None  # None where none is looked for and no operator set one


NOTHING_KNOWN = LiveFacts()
REMOVED = LiveFacts(paused=True, pause_reason="it is no longer in the configuration", removed=True)
"""Removed by a forced reload while callbacks waited for it: nothing sends them until it is back (SPEC 5, "Reload")."""


class LastTold(NamedTuple):
    """What the server of a shared store told last before it was away. Times are on the relay clock; None: nothing."""

    away_since: float
    queues_at: float | None
    queues: Mapping[str, QueueFacts]
    totals_at: float | None
    totals: Mapping[str, QueueTotals]  # with what waits in the spool of this host
    live: Mapping[str, LiveFacts]  # what went on at each platform, whichever host sent for it
