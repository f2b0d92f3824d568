"""``/livez`` and ``/readyz``, the same on both listeners.

Live means that the loop runs. Ready means that the store commits. ``degraded`` means ready with something not well, and
comes with the reasons. A platform that is down never makes the relay unready: neither a restart nor a failover helps
it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp.web import BaseRequest

from relay.core.clock import elapsed_s
from relay.core.errors import RelayError
from relay.views.readiness import LiveView, ReadyView
from relay.web.dispatch import Routes
from relay.web.openapi import Answered, Described
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

# Several probes within this time share one commit: no watcher reacts faster.
_FRESH_S = 0.5
# A probe fails if the commit takes longer; I12 allows 1 s for all.
_BOUND_S = 0.9

Ping = Callable[[], Awaitable[Sequence[str] | None]]
"""Commits once and returns what is not well although it did, in words: None or nothing where all is well."""


PROBES = (
    Described(
        listeners=("ingest", "admin"),
        method="GET",
        path="/livez",
        summary="The process runs",
        answers={200: Answered("It does", (LiveView,))},
    ),
    Described(
        listeners=("ingest", "admin"),
        method="GET",
        path="/readyz",
        summary="The store commits; a platform that is down does not count",
        answers={200: Answered("It does", (ReadyView,))},
        problems=("stopping", "store_failed"),
    ),
)


class Health:
    """Answers the probes.

    ``ping`` commits once and returns what is not well; it raises ``StoreFailed`` if it cannot.
    """

    def __init__(self, *, ping: Ping) -> None:
        self._ping = ping
        self._running: asyncio.Future[Sequence[str] | None] | None = None
        self._reasons: Sequence[str] = ()
        self._checked_at = -_FRESH_S
        self._problem: RelayError | None = None
        self.stopping = False

    def add_to(self, routes: Routes) -> None:
        """Serve both paths."""
        routes.add("GET", "/livez", self.livez)
        routes.add("GET", "/readyz", self.readyz)

    async def livez(self, _request: BaseRequest, _values: Mapping[str, str]) -> Response:
        """Answer 200: a loop that can answer is alive."""
        return json_answer(LiveView())

    async def readyz(self, _request: BaseRequest, _values: Mapping[str, str]) -> Response:
        """Answer 200 when the store commits, else a 503 problem."""
        if self.stopping:
            raise Refusal("stopping")
        if elapsed_s() - self._checked_at >= _FRESH_S:
            await self._check()
        if self._problem is not None:
            raise Refusal("store_failed", str(self._problem))
        if self._reasons:
            return json_answer(ReadyView("degraded", list(self._reasons)))
        return json_answer(ReadyView())

    async def _check(self) -> None:
        # One commit at a time: while one hangs, later probes wait for it too.
        running = self._running
        if running is None or running.done():
            running = self._running = asyncio.ensure_future(self._ping())
            running.add_done_callback(self._note)
        done, _ = await asyncio.wait((running,), timeout=_BOUND_S)
        if not done:
            self._problem = RelayError(f"no commit within {_BOUND_S:g} s")
            self._checked_at = elapsed_s()

    def _note(self, running: asyncio.Future[Sequence[str] | None]) -> None:
        error = None if running.cancelled() else running.exception()
        if error is None or isinstance(error, RelayError):
            self._problem = error
            self._reasons = (running.result() or ()) if error is None and not running.cancelled() else ()
        else:
            self._problem = RelayError(f"the check itself failed with {type(error).__name__}")
        self._checked_at = elapsed_s()
