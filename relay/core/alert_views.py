"""Alerts as people see them: what ``alerts`` tells and ``admin`` shows. Times are on the relay clock, 0 for none."""

from dataclasses import dataclass
from typing import Literal

Sent = Literal["ok", "failed", "dropped"]


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert; ``status`` is ``firing`` or ``resolved``, ``platform`` also a credential's name or empty."""

    rule: str
    status: str
    platform: str
    group: str
    since: float
    until: float
    told_at: float
    silenced_until: float
    summary: str
    meaning: str
    todo: str


@dataclass(frozen=True, slots=True)
class LastSent:
    """What became of the last message to a target; ``reason`` is in our words."""

    result: Sent
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class TargetView:
    """One target, how many messages are on their way to it, and how the last one did."""

    name: str
    kind: str
    waiting: int
    last: LastSent | None


@dataclass(frozen=True, slots=True)
class DrillAnswer:
    """Whether a drill arrived, and what was answered."""

    arrived: bool
    status: int | None
    reason: str
    answer: str
