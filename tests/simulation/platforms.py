"""Platforms as they behave on a bad day, and the network between: each request is written down as it arrives."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.delivery.sender import Request
from relay.standin.bodies import digest, split_items
from relay.wire.answers.answer import Answer, Failure, Headers
from relay.wire.compress import decompress_start

# What can happen to a request; the words are those of the stand-in, where it knows them.
MOODS = (
    *("refuse", "reset", "apply-then-reset", "hang", "apply-then-hang", "truncate", "apply-then-500"),
    *("500", "503+retry-after", "429", "429+retry-after", "408", "400", "late", "garbage", "some"),
)
_RETRY_AFTER_S = 3
CODES = (1, 2)  # of a failed item: refused for good, or to be sent again
_TAKEN = ("200", "late", "truncate", "garbage", "some")
_SOME = 0.3  # of the items of a batch fail where only some do


@dataclass
class Mood:
    """How a platform treats requests for a while: each fate with its likelihood, else 200."""

    fates: Mapping[str, float] = field(default_factory=dict)

    def draw(self, rng: random.Random) -> str:
        """Return what happens to a request."""
        point = rng.random()
        for fate, share in self.fates.items():
            point -= share
            if point < 0:
                return fate
        return "200"


class PlayedPlatform:
    """One platform over all lives of the daemon. ``tells_items``: its answers have a list of failed items."""

    def __init__(self, name: str, rng: random.Random, *, tells_items: bool) -> None:
        self.name = name
        self.mood = Mood()
        self.arrivals: list[dict[str, Any]] = []
        self.unconnected: list[float] = []
        self._rng = rng
        self._tells_items = tells_items

    def connect(self, alive: Callable[[], bool]) -> "PlayedConnection":
        """Return the way to this platform for one life of the daemon."""
        return PlayedConnection(self, alive)

    def note(self, request: Request, fate: str, at: float) -> dict[str, Any]:
        """Write a request down as it arrives."""
        body, coding = request.body, request.headers.get("Content-Encoding", "")
        if coding:
            body, _ = decompress_start(body, coding, 2**26)
        payloads = split_items(body, content_type=request.headers.get("Content-Type", ""))
        arrival = {
            "n": len(self.arrivals),
            "at": at,
            "batch": request.headers.get("Idempotency-Key"),
            "items": [digest(payload) for payload in payloads],
            "count": len(payloads),
            "raw": len(body),
            "answer": fate,
            "applied": fate in _TAKEN or fate.startswith("apply-then-"),
            "delay": 0.0,
        }
        if fate in _TAKEN and fate != "truncate":
            arrival["answer"] = "200"
        if fate == "garbage" and self._tells_items:
            arrival["unreadable"] = True
        if fate == "some" and self._tells_items:
            arrival["refused"] = {index: self._rng.choice(CODES) for index in range(len(payloads)) if self._fails()}
            arrival["failed"] = [arrival["items"][index] for index in arrival["refused"]]
        if fate.endswith("+retry-after"):
            arrival["retry_after"] = _RETRY_AFTER_S
        self.arrivals.append(arrival)
        return arrival

    def _fails(self) -> bool:
        return self._rng.random() < _SOME


class PlayedConnection:
    """Implements ``relay.delivery.sender.Sender``."""

    def __init__(self, platform: PlayedPlatform, alive: Callable[[], bool]) -> None:
        self._platform = platform
        self._alive = alive

    async def send(self, request: Request) -> Answer | Failure:
        """Carry one request and its answer, as the platform's mood says."""
        await self._pass(0.0)
        platform, rng = self._platform, self._platform._rng
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        fate = platform.mood.draw(rng)
        latency_s = rng.uniform(0.005, 0.15)
        await self._pass(latency_s / 2)
        if fate == "refuse":
            platform.unconnected.append(loop.time())
            return Failure("refused", connected=False, detail="played")
        arrival = platform.note(request, fate, loop.time())
        arrival["sent"] = sent_at
        if fate == "late":
            latency_s = request.timeout_s * 1.5
        arrival["delay"] = latency_s / 2
        word = fate.removeprefix("apply-then-")
        if word == "hang" or latency_s >= request.timeout_s:
            arrival["delay"] = request.timeout_s
            arrival["ended"] = sent_at + request.timeout_s
            await self._pass(arrival["ended"] - loop.time())
            return Failure("timeout", connected=True, detail="played")
        arrival["ended"] = loop.time() + latency_s / 2
        await self._pass(latency_s / 2)
        if word in ("reset", "truncate"):
            return Failure("truncated" if word == "truncate" else "reset", connected=True, detail="played")
        return self._answer(arrival, word)

    def _answer(self, arrival: dict[str, Any], word: str) -> Answer:
        headers = [("Content-Type", "application/json")]
        if "retry_after" in arrival:
            headers.append(("Retry-After", str(arrival["retry_after"])))
        if word == "garbage":
            return Answer(200, Headers(headers), self._platform._rng.randbytes(40))
        body: Any = {"ok": True}
        if refused := arrival.get("refused"):
            body = {"failed": [{"at": index, "code": code} for index, code in refused.items()]}
        status = int(word[:3]) if word[0].isdigit() else 200
        return Answer(status, Headers(headers), json.dumps(body).encode())

    async def _pass(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds)
        if not self._alive():
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing stays open."""
