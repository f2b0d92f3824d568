"""What is known of a platform's limits, and where it comes from: values, and how they are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple

from relay.core.model import Rate
from relay.core.raw import Kept
from relay.limits.estimator import Estimate


class Mode(StrEnum):
    """``learn_limit`` of a platform."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class LearnTerms:
    """How a platform's limits are learned; nothing below ``floor`` is ever enforced."""

    mode: Mode = Mode.ENFORCE
    floor: Rate | None = None


class OperatorLimit(NamedTuple):
    """A limit an operator set, until a relay-clock time (infinite: until forgotten)."""

    rates: tuple[Rate, ...]
    until: float
    reason: str

    def dump(self) -> Kept:
        """Return it fit for JSON."""
        until = None if self.until == inf else self.until
        return {"rates": numbers(self.rates), "until": until, "reason": self.reason}

    @classmethod
    def load(cls, kept: Kept) -> "OperatorLimit":
        """Return it from ``dump``. Raises ``ValueError`` when its rates cannot be read."""
        until = kept.get("until")
        return cls(rates_of(kept.get("rates")), inf if until is None else float(until), str(kept.get("reason", "")))


class Known(NamedTuple):
    """The rates that hold, where they come from (learned | declared | none), and the estimate behind learned ones."""

    rates: tuple[Rate, ...]
    source: str
    estimate: Estimate | None

    @property
    def confidence(self) -> float:
        """Between 0 and 1; what is declared is certain."""
        if self.source == "learned" and self.estimate is not None:
            return self.estimate.confidence
        return float(bool(self.rates))

    @property
    def limits(self) -> tuple[Rate, ...]:
        """The rates without paces: those worth writing down."""
        if self.source == "learned" and self.estimate is not None:
            return tuple(rate for rate in self.rates if rate in self.estimate.limits)
        return self.rates

    @property
    def news_key(self) -> tuple[tuple[Rate, ...], bool]:
        """What is reported when it changes: the limits, and whether there is a pace (its rate moves all the time)."""
        return self.limits, self.limits != self.rates

    @property
    def sentence(self) -> str:
        """Say why, for people."""
        if self.source == "declared":
            return "the platform declares it in its answers"
        return "" if self.estimate is None else str(self.estimate.evidence.sentence)


class News(NamedTuple):
    """What is known of a group since just now; no rates mean that a limit is no longer believed."""

    group: str
    known: Known


def numbers(rates: Sequence[Rate]) -> list[list[float]]:
    """Return rates fit for JSON."""
    return [[rate.limit, rate.window_s] for rate in rates]


def rates_of(kept: Any) -> tuple[Rate, ...]:
    """Return rates from ``numbers``. Raises ``ValueError`` when they are none."""
    try:
        return tuple(Rate(int(limit), float(window_s)) for limit, window_s in kept)
    except (TypeError, ValueError) as error:
        raise ValueError(f"stored rates cannot be read: {error}; they will be learned anew") from error
