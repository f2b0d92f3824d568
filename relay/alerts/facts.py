"""What the rules look at: one snapshot of the relay as plain values.

Nothing of a payload is in it, and of an answer only the code that a rule met.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.views.past.objective import ObjectiveView


@dataclass(frozen=True, slots=True)
class PlatformFacts:
    """One platform; ``state`` is the word of ``relay status``."""

    state: str = "ok"
    pending: int = 0
    held: int = 0
    unopened: int = 0  # sealed ones that did not open since the start
    dead: int = 0
    oldest_due_s: float = 0.0
    out_per_s: float | None = 0.0  # delivered, over the last minute; None: not watched for so long
    drain_s: float | None = 0.0  # None: unknown; infinite: it grows
    expires_s: float | None = None
    died: Mapping[str, int] = field(default_factory=dict)  # since the snapshot before, by a fixed word for the reason
    died_of: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # of these by word, by whole reason
    objective: ObjectiveView | None = None
    adopt: str = ""  # the line that states a limit which is enforced and not configured


@dataclass(frozen=True, slots=True)
class ReconcileFacts:
    """How a platform's last comparison stands; ``trouble`` is failed, incomplete, missed, unrepaired or empty."""

    differences: int = 0  # `unsettled` aside
    trouble: str = ""
    run: str = ""
    sent: int = 0  # of these orders, what the run sent once more
    repaired: int = 0  # of what the run before sent once more, what both sides show by now
    unrepaired: int = 0  # ... and what they do not


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """The relay at one instant. What cannot be known now is None, and no rule about it changes its mind."""

    platforms: Mapping[str, PlatformFacts] | None
    store_failed: bool = False
    store_damage: int = 0  # what met a damaged page of the store's file since the start
    used_percent: float | None = None  # of what posts may use
    full_in_s: float | None = None  # at the present rate; None: it does not fill
    disk_free_bytes: int | None = None
    unaccounted: int | None = None
    refused_problems: int = 0  # of the last reload, if it was refused
    clock_step_s: float = 0.0  # how far the wall clock was set ahead of the relay's since that began
    tokens_lacking: tuple[str, ...] = ()
    hosts_troubled: Mapping[str, str] = field(default_factory=dict)  # gone, mismatch; of a platform: unowned
    acceptors_lacking: bool = False  # they end again and again, or one does not answer
    # Seconds left, by platform and whose: "server" or "client"
    certificates: Mapping[tuple[str, str], float] = field(default_factory=dict)
    reconciled: Mapping[str, ReconcileFacts] = field(default_factory=dict)  # by platform
    reveals_refused: tuple[str, ...] = ()  # users who wanted to see more payloads than they may, lately
