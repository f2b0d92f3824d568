"""The routes about comparisons of both sides, and what a command that compares asks of the platform."""

from collections.abc import Awaitable
from typing import Protocol

from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.core.raw import JsonObject
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

QUESTION = {
    "platform": {"type": "string"},
    "page": {"type": "string", "description": "URL of a page, at the host that is configured"},
    "order": {"type": "string", "description": "or an order that is asked about (confirm)"},
    "callback": {"type": "string", "description": "id of its newest callback"},
}


class Reconciler(Protocol):
    """The part of the daemon that compares."""

    def ask(self, platform: str, question: JsonObject) -> Awaitable[JsonObject]:
        """Ask the platform under its limits. Raises ``KeyError`` for a platform that is not compared."""
        ...


class ReconcileRoutes:
    """The routes about comparisons."""

    def __init__(self, *, reconciler: Reconciler, audit: Audit) -> None:
        self._reconciler = reconciler
        self._audit = audit

    async def ask(self, call: Call) -> Response:
        """POST /v1/reconciliations/questions."""
        body = object_body(call.body, allowed=tuple(QUESTION))
        for key, given in body.items():
            if not isinstance(given, str):
                raise Refusal("invalid_request", f"'{key}' must be a text", key=key)
        platform = body.pop("platform", "")
        if ("page" in body) == ("order" in body):
            raise Refusal("invalid_request", "say either 'page' or 'order'", key="page")
        try:
            return json_answer(await self._reconciler.ask(platform, body))
        except KeyError:
            raise Refusal("unknown_platform", f"'{platform[:80]}' is not compared: reconcile has no such key") from None
