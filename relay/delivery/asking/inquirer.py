"""Asks one platform for pages and single orders: under all its limits, within a budget, behind its deliveries.

While callbacks wait for a slot, one slot in ten goes to questions, as low work keeps a share; otherwise a question goes
as soon as a slot is free. A budget (``20/min``) is kept as strictly as a limit, within this process; the platform's own
limits hold over restarts, as those of deliveries do.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final, NamedTuple

from relay.core.clock import Clock
from relay.core.errors import RelayError, Unfit
from relay.core.model import Outcome, Rate, WaitUntil
from relay.delivery.courier import Asked
from relay.delivery.pipeline import Pipeline
from relay.policy.strict_window import StrictWindow
from relay.wire.answers.answer import Answer
from relay.wire.answers.classify import classify_read_back
from relay.wire.answers.reading import Reading
from relay.wire.payload.extract import InvalidJson
from relay.wire.payload.target import TemplateFields
from relay.wire.signing.draft import CONTENT_TYPE, Draft, ready_url

_PAGE_BYTES: Final = 32 * 2**20
_EVERY: Final = 10  # of the slots that callbacks wait for, one goes to a question
_HELD_BACK: Final = ("limit", "share")
_LOOK_S: Final = 0.2  # at most so long between two looks whether a question may go
_TRIES: Final = 5
_AGAIN_S: Final = (1.0, 5.0, 15.0, 30.0)  # after a failure that may pass
_MAY_PASS: Final = frozenset((Outcome.RETRY, Outcome.DOWN, Outcome.THROTTLED))
_REFUSALS: Final = 20  # throttles of one question in a row, each with the wait it asked for


class ToldOfOrders(NamedTuple):
    """What the platform answered. ``outcome`` empty: nobody could be asked."""

    outcome: str = ""
    status: int = 0
    document: object = None
    link: str = ""
    reason: str = ""


class NoSlot(RelayError):
    """No request could go in the time allowed; ``reason`` says what held it back."""


class Inquirer:
    """Asks the platform whose pipeline ``find`` returns; a reload may put another one in its place, after seconds."""

    def __init__(self, find: Callable[[], Pipeline | None], *, clock: Clock, budget: Rate | None) -> None:
        self._find = find
        self._clock = clock
        self._window = None if budget is None else StrictWindow(budget)
        self._numbers = count(1)
        self._turns = -_EVERY

    async def page(self, url: str, *, within_s: float) -> ToldOfOrders:
        """Return what stands at ``url``. Raises ``NoSlot`` when no request could go within the time."""
        terms = (await self._pipeline(self._clock.now() + within_s)).terms
        headers = {name: value for name, value in terms.headers.items() if name.lower() != CONTENT_TYPE.lower()}

        def draft(request_id: str) -> Draft:
            return Draft(request_id, "GET", ready_url(url), headers, b"")

        asked = await self._patiently(draft, within_s=within_s)
        return _told(asked, asked.verdict.outcome.value)

    async def order(self, fields: TemplateFields, *, within_s: float) -> ToldOfOrders:
        """Return what ``confirm`` answers about an order. Raises ``NoSlot`` as ``page`` does."""
        asking = (await self._pipeline(self._clock.now() + within_s)).terms.asking
        if asking is None:
            return ToldOfOrders()
        try:
            method, url = asking.target.of(fields)
            body = b"" if asking.body is None else asking.body(fields.payload)
        except (InvalidJson, Unfit):
            return ToldOfOrders()  # it is asked about by something that nobody knows of this order
        headers = dict(asking.headers)
        if body:
            headers.setdefault(CONTENT_TYPE, "application/json")

        def draft(request_id: str) -> Draft:
            return Draft(request_id, method, ready_url(url), headers, body)

        asked = await self._patiently(draft, within_s=within_s)
        if not isinstance(asked.answer, Answer):
            return _told(asked, asked.verdict.outcome.value)
        outcome = classify_read_back(asked.answer, rules=asking.rules, wall=0.0).outcome
        return _told(asked, outcome.value)

    async def _patiently(self, draft: Callable[[str], Draft], *, within_s: float) -> Asked:
        """Ask again after what may pass: failures five times, throttles for as long as the platform says."""
        failures = refusals = 0
        while True:
            asked = await self._once(draft, within_s=within_s)
            outcome = asked.verdict.outcome
            if outcome is Outcome.THROTTLED:
                refusals += 1
            elif asked.renewed or outcome in _MAY_PASS:
                failures += 1
            else:
                return asked
            if failures >= _TRIES or refusals >= _REFUSALS:
                return asked
            if outcome is not Outcome.THROTTLED and not asked.renewed:
                await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S)) - 1])

    async def _once(self, draft: Callable[[str], Draft], *, within_s: float) -> Asked:
        """Wait for a slot and ask."""
        gives_up_at = self._clock.now() + within_s
        while True:
            pipeline = await self._pipeline(gives_up_at)
            wait = self._own_turn(pipeline, self._clock.now())
            if wait is None:
                number = next(self._numbers)
                if self._window is not None:
                    self._window.take(number)
                asked: Asked | WaitUntil | None = None
                try:
                    asked = await pipeline.ask(draft, answer_bytes=_PAGE_BYTES)
                finally:
                    if self._window is not None:
                        if isinstance(asked, WaitUntil):
                            self._window.forget(number)
                        else:
                            self._window.release(number, self._clock.now())
                if isinstance(asked, Asked):
                    self._turns = pipeline.turns
                    return asked
                assert asked is not None
                wait = asked
            now = self._clock.now()
            if now >= gives_up_at:
                raise NoSlot(f"no request could go to {pipeline.terms.platform} for {within_s:g} s: {wait.reason}")
            await asyncio.sleep(max(0.01, min(wait.at - now, _LOOK_S, gives_up_at - now)))

    async def _pipeline(self, gives_up_at: float) -> Pipeline:
        """Wait until the platform has a pipeline. Raises ``NoSlot`` when it has none in time."""
        while (pipeline := self._find()) is None:
            if self._clock.now() >= gives_up_at:
                raise NoSlot("no request could go: the relay sends nothing to this platform now")
            await asyncio.sleep(_LOOK_S)
        return pipeline

    def _own_turn(self, pipeline: Pipeline, now: float) -> WaitUntil | None:
        if self._window is not None and (free_at := self._window.free_at(now)) > now:
            return WaitUntil(free_at, "budget")
        if pipeline.wait_reason in _HELD_BACK and 0 <= pipeline.turns - self._turns < _EVERY:
            return WaitUntil(now + _LOOK_S, "deliveries go first")
        return None


def _told(asked: Asked, outcome: str) -> ToldOfOrders:
    answer = asked.answer
    if not isinstance(answer, Answer):
        return ToldOfOrders(outcome, 0, None, "", asked.verdict.reason)
    document = Reading(answer).document
    reason = asked.verdict.reason
    if outcome in ("ok", "duplicate", "confirm") and document is None:
        reason = "the answer is larger than 32 MiB" if not answer.complete else "the answer is no JSON"
    return ToldOfOrders(outcome, answer.status, document, answer.headers.get("link", ""), reason)
