"""One path of the stand-in: its behaviour, its limits, its figures, and what it does with a request."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from relay.core.model import Rate, Weight
from relay.standin.arrivals import PathTotals
from relay.standin.bodies import MalformedBody, field_reader, split_items
from relay.standin.personalities.exchange import Personality, PlatformAnswer, PlatformRequest
from relay.standin.personalities.registry import build_personality
from relay.standin.reactions import MALFORMED, NO_ENCODING, OK, TOO_LARGE, TOO_MANY, Reaction
from relay.standin.settings import Settings
from relay.wire.compress import BadEncoding, TooLarge, UnsupportedEncoding, decompress
from relay.wire.payload.cost import cost_reader

_DEFAULT_WINDOWS_S = (1.0, 60.0)  # peaks worth knowing whatever the limits are
MAX_BODY_BYTES = 256 * 2**20  # what a stand-in takes before it looks at any setting


class Examined(NamedTuple):
    """A body taken apart, and the reaction that the body alone decides, if any (400, 413, 415)."""

    reaction: Reaction | None
    body: bytes
    items: list[bytes]


class Endpoint:
    """One path. ``apply`` changes its behaviour while it runs; the figures count on."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.figures = PathTotals(_DEFAULT_WINDOWS_S)
        self.limits = settings.limits()
        self._weighing = settings.weighing()
        self.personality = _built(settings)
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Behave so from now on. Limits and personality start afresh only if they changed."""
        if settings.limit != self.settings.limit:
            self.limits = settings.limits()
        if settings.personality != self.settings.personality:
            self.personality = _built(settings)
        if _weighed(settings) != _weighed(self.settings):
            self._weighing = settings.weighing()
        self._cost = cost_reader(settings.cost)
        self.figures.watch(rate.window_s for _, rate in settings.limit)
        self.settings = settings
        self.read_id = field_reader(settings.id_field) if settings.id_field else None
        self._is_poison = field_reader(settings.poison) if settings.poison else None

    def admit(self, now: float) -> tuple[Reaction | None, float]:
        """Return what an outage or a limit does to a request, and how long the limit wants it to wait, in seconds.

        None: the request passes. The wait is 0 unless a limit refused.
        """
        if self.settings.outage is not None:
            return self.settings.outage, 0.0
        wait_s = self.limits.admit(now)
        return (self.settings.over, wait_s) if wait_s > 0 else (None, 0.0)

    def weigh(self, now: float, callbacks: Sequence[bytes], wire_bytes: int) -> float:
        """Count what a request carries; return 0.0, or how long it should wait where that is above a limit."""
        points = sum(map(self._cost, callbacks)) if self.settings.points else 0
        return self._weighing.admit(now, Weight(1, len(callbacks), wire_bytes, points))

    @property
    def most_weighed(self) -> dict[str, int]:
        """The most that arrived in any window of the limits on what requests carry, by the rate as it is written."""
        return self._weighing.most

    def examine(self, wire: bytes, *, coding: str, content_type: str) -> Examined:
        """Decode a body and take it apart, as far as it can be."""
        settings = self.settings
        try:
            body = decompress(wire, coding, MAX_BODY_BYTES)
        except UnsupportedEncoding:
            return Examined(NO_ENCODING, wire, [])
        except TooLarge:
            return Examined(TOO_LARGE, wire, [])
        except BadEncoding:
            return Examined(MALFORMED, wire, [])
        reaction = NO_ENCODING if coding and coding not in settings.accept else None
        if len(body) > settings.max_bytes:
            reaction = reaction or TOO_LARGE
        if self.personality is not None:
            return Examined(reaction, body, [])  # it reads the body itself
        try:
            items = split_items(body, content_type=content_type, shape=settings.shape, items_at=settings.items_at)
        except MalformedBody:
            return Examined(reaction or MALFORMED, body, [])
        if reaction is None and self._poisoned(body, items):
            reaction = MALFORMED
        return Examined(reaction, body, items)

    def hands_tokens_at(self, path: str) -> bool:
        """Return whether the personality hands out tokens at ``path``."""
        return self.personality is not None and self.personality.token_path == path

    def respond(self, request: PlatformRequest, reaction: Reaction, wait_s: float) -> PlatformAnswer | None:
        """Return the personality's answer. None if the path has no personality, or a fault came before it.

        A fault after the work (``apply-then-reset``) shows the personality the request and loses its answer.
        """
        if self.personality is None:
            return None
        if wait_s > 0.0 and reaction is TOO_MANY:
            return self.personality.over((), wait_s)
        return self.personality.decide(request) if reaction.applied else None

    def roll(self, dice: random.Random) -> Reaction:
        """Draw a fault by its probability; without one the request succeeds."""
        if self.settings.fault:
            roll = dice.random()
            for fault in self.settings.fault:
                if roll < fault.probability:
                    return fault.answer
                roll -= fault.probability
        return OK

    def _poisoned(self, body: bytes, items: list[bytes]) -> bool:
        if self._is_poison is None or self.settings.poison.encode() not in body:
            return False
        return any(self._is_poison(item) is True for item in items)


def _weighed(settings: Settings) -> tuple[tuple[Rate, ...], ...]:
    return settings.items, settings.bytes, settings.points


def _built(settings: Settings) -> Personality | None:
    return build_personality(settings.personality) if settings.personality else None
