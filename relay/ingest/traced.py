"""Puts a span around the handling of a post, and lets its callbacks carry the span's context."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Protocol

from aiohttp.web import BaseRequest, StreamResponse

from relay.web.dispatch import Handler
from relay.web.refusal import KINDS, Refusal
from relay.web.response import Response

TRACEPARENT: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The context that the callbacks of the post under way carry in place of the one the post came with; None: that one."""


class PostSpan(Protocol):
    """The span of one post."""

    @property
    def traceparent(self) -> str | None:
        """What its callbacks carry."""
        ...

    def end(self, status: int, platform: str) -> None:
        """End it with the HTTP status that was answered."""
        ...


BeginSpan = Callable[[str | None], PostSpan]
"""Begins the span of a post that came with this ``traceparent``."""


def traced(handler: Handler, begin: BeginSpan | None) -> Handler:
    """Return ``handler`` with a span around it; itself where nothing is traced."""
    if begin is None:
        return handler

    async def handle(request: BaseRequest, values: Mapping[str, str]) -> Response | StreamResponse:
        span = begin(request.headers.get("traceparent"))
        token = TRACEPARENT.set(span.traceparent)
        status = 500
        try:
            answer = await handler(request, values)
            status = answer.status
            return answer
        except Refusal as refusal:
            status = KINDS[refusal.code].status
            raise
        finally:
            TRACEPARENT.reset(token)
            span.end(status, values.get("platform", ""))

    return handle
