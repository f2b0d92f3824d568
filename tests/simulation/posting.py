"""The order center of a simulation: it posts, waits, repeats what was not answered 202, and writes everything down."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

from relay.standin.bodies import digest
from tests.e2e.checker import Asked, Posted

CANARY = "13800138000"  # a phone number in every payload: it may be nowhere but in what platforms get
_PATIENCE_S = 5.0
_AGAIN_S = 0.5


Ask = Callable[[str, str, str, dict[str, str], bytes], Awaitable[Any]]
"""Listener, method, path, headers, body to the response; None where the connection broke or nobody listened."""


class Posting:
    """Posts to the platforms of ``names`` under keys of its own."""

    def __init__(self, ask: Ask, rng: random.Random, *, names: tuple[str, ...], keys: int) -> None:
        self.posted: dict[str, list[Posted]] = {name: [] for name in names}
        self.asked: list[Asked] = []
        self.gave_up = 0
        self._ask = ask
        self._rng = rng
        self._keys = keys
        self._busy: dict[str, asyncio.Lock] = {}
        self._numbers = iter(range(10**9))
        self._posts = iter(range(10**9))

    async def post(self, until_s: Callable[[], float]) -> None:
        """Post one request and repeat it until it is answered, or walk away from an unclear end.

        Posts of one platform and key wait for each other: else nobody could say which came first. ``until_s`` is when
        even who repeats gives up.
        """
        rng = self._rng
        name = rng.choice(list(self.posted))
        async with self._busy.setdefault(name, asyncio.Lock()):
            await self._post(name, rng.choice([1, 1, 1, 3, 8]), walks_away=rng.random() < 0.2, until_s=until_s)

    async def _post(self, name: str, count: int, *, walks_away: bool, until_s: Callable[[], float]) -> None:
        rng = self._rng
        post = next(self._posts)
        rows = [(f"o{rng.randrange(self._keys)}", next(self._numbers)) for _ in range(count)]
        payloads = [b'{"order":"%b","n":%d,"phone":"%b"}' % (k.encode(), n, CANARY.encode()) for k, n in rows]
        headers = {"Idempotency-Key": f"post-{post}", "Content-Type": "application/json"}
        if count > 1:
            headers["Content-Type"] = "application/x-ndjson"
        path = f"/v1/platforms/{name}/callbacks"
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            response = await self._once(path, headers, b"\n".join(payloads))
            status = None if response is None else response.status
            replayed = response is not None and b"Idempotent-Replayed" in response._head
            self.asked.append(Asked(began_s, loop.time(), status, replayed))
            if status == 202 or walks_away or (status is not None and status < 500):
                break
            if loop.time() > until_s():
                self.gave_up += 1
                break
            await asyncio.sleep(_AGAIN_S)
        answer = json.loads(response.body) if status == 202 else {}
        ids = answer.get("ids") or [answer.get("id")] * count
        self.posted[name] += [
            Posted(n, post, key, f"post-{post}", digest(payload), status, callback_id)
            for (key, n), payload, callback_id in zip(rows, payloads, ids, strict=True)
        ]

    async def _once(self, path: str, headers: dict[str, str], body: bytes) -> Any:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._ask("ingest", "POST", path, headers, body)
        except TimeoutError:
            return None
