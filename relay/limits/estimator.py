"""The limit nobody announced: found from accepted and refused sends, kept just below, tried again rarely.

``Estimator`` hears of every send and answer under one quota (or one group of it) and says which rates to enforce. It
reads no clock. The rates are meant for ``StrictWindow``, which conforms to every family of limits. docs/limits.md tells
the method; ``tracker.py`` holds the state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from relay.core.model import Rate, seconds_text
from relay.core.raw import Kept
from relay.limits.fit.families import Family
from relay.limits.in_force.ceiling import RATES
from relay.limits.in_force.limit import LearnedLimit, smooth
from relay.limits.in_force.outage import confidence
from relay.limits.tracker import Tracker
from relay.views.limit_view import EvidenceView
from relay.views.moments import Instant, moment


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed of a quota. ``rates`` is empty while nothing is; times are relay-clock seconds."""

    rates: tuple[Rate, ...]
    family: Family
    confidence: float
    evidence: EvidenceView
    since: float | None
    limits: tuple[Rate, ...] = ()  # ``rates`` without paces: worth writing down


def yaml_line(rates: Sequence[Rate]) -> str:
    """Return the line of the configuration that states ``rates``, or an empty string."""
    if len(rates) > 1:
        return f"rate: [{', '.join(map(str, rates))}]"
    return f"rate: {rates[0]}" if rates else ""


class Estimator:
    """Estimates the limit of one quota. ``floor`` is a rate below which nothing is ever enforced.

    The caller enforces ``enforced()``, asks again whenever ``changed`` is set, and keeps one request under way while
    ``careful``.
    """

    def __init__(self, *, floor: Rate | None = None) -> None:
        self._tracker = Tracker()
        self.floor = floor
        self.sent = self._tracker.evidence.sent  # (token, now): a request goes out; the hot path calls it directly
        self.answered = self._tracker.answered  # (token, now, kind, wait_s)

    @property
    def changed(self) -> bool:
        """Whether ``enforced`` would say something new."""
        return self._tracker.changed

    @property
    def unkept(self) -> bool:
        """Whether a restart would find less than ``dump`` has to say now."""
        return self._tracker.changed or self._tracker.confidence_rose

    @property
    def floor(self) -> Rate | None:
        """The rate below which nothing is enforced."""
        return self._floor

    @floor.setter
    def floor(self, floor: Rate | None) -> None:
        self._floor = floor
        self._tracker.floor_at(0.0 if floor is None else floor.limit / floor.window_s)

    @property
    def patience_s(self) -> float:
        """How long to stop at least after a second refusal in a row; 0 where that is not known."""
        return self._tracker.patience_s

    @property
    def knows(self) -> bool:
        """Whether a limit is believed."""
        return bool(self._tracker.rates)

    @property
    def trying(self) -> Rate | None:
        """The rate that a probe tries, if one is under way."""
        probe = self._tracker.prober.probe
        return None if probe is None else probe.rate

    @property
    def observing(self) -> bool:
        """Whether limits are only observed: then refusals say nothing against them, and nothing is tried."""
        return self._tracker.observing

    @observing.setter
    def observing(self, observing: bool) -> None:
        self._tracker.observe(observing)

    def forget_token(self, token: int) -> None:
        """Drop a request whose answer will not come (it was never sent, or the relay itself failed)."""
        self._tracker.evidence.take(token)

    def forget(self) -> None:
        """Begin anew, as an operator asks after a contract changed."""
        self._tracker.forget()

    def careful(self, now: float) -> bool:
        """Say whether only one request may be under way: it may well be refused, and one refusal says enough.

        That is so during a probe, and where a young limit is nearly used up.
        """
        return self._tracker.careful(now)

    def enforced(self) -> tuple[Rate, ...]:
        """Return the rates to enforce now, shortest window first, and clear ``changed``."""
        tracker = self._tracker
        tracker.changed = False
        probe = tracker.prober.probe
        return tuple(
            self._ceiling(limit, probe.rate if probe is not None and probe.of is limit else limit.rate())
            for limit in tracker.rates
        )

    def _ceiling(self, limit: LearnedLimit, rate: Rate) -> Rate:
        return floored(smooth(rate, limit.answer_s) if limit.is_pace else rate, self.floor)

    # what people see

    def estimate(self, now: float) -> Estimate:
        """Return what is believed, with its evidence."""
        rates = tuple(self._ceiling(limit, limit.rate()) for limit in self._tracker.rates)
        limits = tuple(rate for rate, limit in zip(rates, self._tracker.rates, strict=True) if not limit.is_pace)
        evidence = EvidenceView(
            accepted=self._tracker.accepted, refused=self._tracker.refused, closures=self._tracker.closures
        )
        if not self._tracker.rates:
            evidence = replace(evidence, sentence=self._doubt_sentence(now))
            return Estimate(rates, Family.UNCERTAIN, 0.0, evidence, None)
        binding = min(self._tracker.rates, key=lambda limit: limit.rate_s)
        evidence = replace(
            evidence,
            sentence=_sentence(binding),
            since=Instant(binding.since),
            clean_windows=binding.clean_windows,
            window_between_s=[round(binding.low_s, 3), round(binding.high_s, 3)],
            next_try_at=moment(binding.raise_at),
        )
        score = confidence(binding.onsets, binding.family, binding.settled, binding.clean_windows)
        return Estimate(rates, binding.family, score, evidence, binding.since, limits)

    def _doubt_sentence(self, now: float) -> str:
        if now < self._tracker.correlation.until:
            minutes = _counted(int((self._tracker.correlation.until - now) / 60) + 1, "minute")
            return f"refused as often when far less was sent: that is no limit; looked at again in {minutes}"
        if not self._tracker.refused:
            return "nothing was refused"
        if not self._tracker.closures:
            return (
                f"refused {_counted(self._tracker.refused, 'time')}, with nothing accepted in the hour before: "
                "that says nothing about a limit"
            )
        stretches = self._tracker.closures
        return (
            f"refused in {_counted(stretches, 'stretch')} that no limit explains: an outage, or too little seen so far"
        )

    # persistence

    def dump(self) -> Kept:
        """Return what a restart needs: small, and fit for JSON."""
        self._tracker.confidence_rose = False
        return {
            "version": 1,
            "rates": [limit.dump() for limit in self._tracker.rates],
            "accepted": self._tracker.accepted,
            "refused": self._tracker.refused,
            "closures": self._tracker.closures,
        }

    def load(self, kept: Kept) -> None:
        """Continue from ``dump``. Raises ``ValueError`` when it is not one, and changes nothing then."""
        try:
            rates = [LearnedLimit.load(entry) for entry in kept.get("rates", ())][:RATES]
            counts = [int(kept.get(name, 0)) for name in ("accepted", "refused", "closures")]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the stored estimate cannot be read: {error!r}; it will be learned anew") from error
        if any(limit.n < 1 or not limit.window_s > 0 for limit in rates):
            raise ValueError("the stored estimate has a limit below 1; it will be learned anew")
        self._tracker.rates = rates
        self._tracker.accepted, self._tracker.refused, self._tracker.closures = counts
        self._tracker.changed = True


def floored(rate: Rate, floor: Rate | None) -> Rate:
    """Return ``rate``, or what ``floor`` (None: one request) comes to in its window where that is more."""
    least = 1 if floor is None else -(-floor.limit * rate.window_s // floor.window_s)
    return rate if rate.limit >= least else Rate(int(least), rate.window_s)


def _sentence(limit: LearnedLimit) -> str:
    """Say for people why a limit is believed."""
    if limit.is_pace:
        return f"no limit explains the refusals: {_rounded(limit.rate_s)} requests a second got through between them"
    window, clean = seconds_text(limit.window_s), limit.clean_windows
    proof = f"{window} held, used up {_counted(clean, 'time')}" if clean else f"{window} would explain it"
    return (
        f"refused {_counted(limit.onsets, 'time')} after {_counted(limit.n, 'request')}; "
        f"a window of {_rounded(limit.low_s)}s was refused, one of {proof}"
    )


def _rounded(number: float) -> str:
    """Return a number to three digits, without an exponent."""
    return seconds_text(float(f"{number:.3g}")).removesuffix("s")


def _counted(count: int, noun: str) -> str:
    plural = "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{'' if count == 1 else plural}"
