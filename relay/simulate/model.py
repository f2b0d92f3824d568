"""The platform of a simulation: a ``Sender`` that answers as the stand-in over HTTP would, in virtual time.

The way of a request: half of the latency passes; then an outage, the limits and the random faults decide, in this order
(as in ``standin/platform.py``); then the other half passes. Bodies are not read: the batch says what a request holds.
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration
from relay.core.clock import Clock
from relay.core.model import Batch, Weight
from relay.delivery.sender import Request
from relay.simulate.record import Arrived, Record
from relay.standin.endpoint import Endpoint
from relay.standin.reactions import ERRCODE_BODY, Reaction, parse_answer
from relay.standin.settings import BadSetting, Settings
from relay.wire.answers.answer import Answer as WireAnswer
from relay.wire.answers.answer import Failure, Headers

_FAILURES = {
    "refuse": Failure("refused", connected=False, detail="modelled"),
    "reset": Failure("reset", connected=True, detail="modelled"),
    "truncate": Failure("truncated", connected=True, detail="modelled"),
}
_HANG = Failure("timeout", connected=True, detail="modelled")


class Outage(NamedTuple):
    """A time in which every request gets the same reaction; seconds from the start of the run."""

    start_s: float
    end_s: float
    answer: Reaction


class ModelledPlatform:
    """One platform. ``members`` has the batches under way by their ``Idempotency-Key``."""

    def __init__(
        self,
        *,
        settings: Settings,
        outages: Sequence[Outage],
        clock: Clock,
        started_at: float,
        rng: random.Random,
        members: Mapping[str, Batch],
        cost: Callable[[bytes], int],
        record: Record,
    ) -> None:
        """``cost``: the points of a callback as the relay counts them."""
        self._cost = cost
        self._settings = settings
        self._outages = outages
        self._endpoint = Endpoint(settings)
        self._clock = clock
        self._started_at = started_at
        self._rng = rng
        self._members = members
        self._record = record

    async def send(self, request: Request) -> WireAnswer | Failure:
        """Return the answer to ``request``, or the failure, after the time that it takes."""
        latency_s = self._rng.uniform(*self._settings.latency)
        if latency_s / 2 >= request.timeout_s:
            await asyncio.sleep(request.timeout_s)
            return _HANG
        await asyncio.sleep(latency_s / 2)
        batch = self._members[request.headers["Idempotency-Key"]]
        answer, wait_s = self._arrive(batch, len(request.body), in_time=latency_s < request.timeout_s)
        if answer.act == "hang" or latency_s >= request.timeout_s:
            await asyncio.sleep(request.timeout_s - latency_s / 2)
            return _HANG
        await asyncio.sleep(latency_s / 2)
        return _FAILURES.get(answer.act) or self._reply(answer, wait_s)

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _arrive(self, batch: Batch, wire_bytes: int, *, in_time: bool) -> tuple[Reaction, float]:
        """Decide about a request that arrives now, and record it."""
        now = self._clock.now()
        at_s = now - self._started_at
        outage = next((each.answer for each in self._outages if each.start_s <= at_s < each.end_s), None)
        refusal, wait_s = (outage, 0.0) if outage is not None else self._endpoint.admit(now)
        if refusal is None:
            wait_s = self._endpoint.weigh(now, [item.payload for item in batch.items], wire_bytes)
            refusal = self._settings.over if wait_s > 0 else None
        answer = refusal or self._endpoint.roll(self._rng)
        arrived = Arrived(
            at_s=at_s,
            weight=Weight(1, len(batch.items), wire_bytes, sum(self._cost(item.payload) for item in batch.items)),
            answer=answer.name,
            taken=answer.applied,
            limited=wait_s > 0,
            counted=outage is None,
        )
        clear = in_time and answer.act == "answer" and answer.status < 300
        self._record.arrived(arrived, batch, at=now, clear=clear)
        return answer, wait_s

    def _reply(self, answer: Reaction, wait_s: float) -> WireAnswer:
        headers = [("Content-Type", "application/json")]
        if answer.retry_after:
            headers.append(("Retry-After", str(math.ceil(wait_s or self._settings.retry_after_s))))
        if answer.errcode:
            body = ERRCODE_BODY
        elif 200 <= answer.status < 300:
            body = self._settings.reply.encode()
        else:
            body = b'{"error":"%d"}' % answer.status
        return WireAnswer(answer.status, Headers(headers), body)


def parse_outage(text: str) -> Outage:
    """Read ``30m@10m`` (30 minutes, from 10 minutes on, connections refused) or ``30m@10m:503``.

    Raises ``BadSetting``.
    """
    span, colon, word = text.partition(":")
    length, at, start = span.partition("@")
    if not at:
        raise BadSetting(f"outage {text!r}: write how long and from when on, as in 30m@10m or 30m@10m:503")
    try:
        start_s, length_s = parse_duration(start), parse_duration(length)
        if not length_s:
            raise ValueError("it ends as it begins; write how long it lasts, as in 30m@10m")
        return Outage(start_s, start_s + length_s, parse_answer(word if colon else "refuse"))
    except BadValue as bad:
        raise BadSetting(f"outage {text!r}: {bad.message}") from bad
    except ValueError as error:
        raise BadSetting(f"outage {text!r}: {error}") from error
