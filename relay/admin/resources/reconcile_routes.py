"""The routes about comparisons of both sides, and what a command that compares asks of the platform."""

from collections.abc import Awaitable
from typing import Protocol

from msgspec import convert, structs

from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.sight import Sight
from relay.core.errors import RelayError
from relay.core.raw import JsonObject
from relay.privacy.masking import mask_text
from relay.views.past.reconciliation import DifferenceView, RunPage, RunView, WholeRunView
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

    def start(self, platform: str) -> Awaitable[JsonObject]:
        """Start a run. Raises ``KeyError`` and, where one is under way, ``RelayError``."""
        ...

    def listed(self, platform: str | None) -> Awaitable[list[JsonObject]]:
        """Return runs, newest first."""
        ...

    def one(self, name: str) -> Awaitable[JsonObject | None]:
        """Return a run with its differences, or None."""
        ...


class ReconcileRoutes:
    """The routes about comparisons."""

    def __init__(self, *, reconciler: Reconciler, platforms: PlatformRoutes, audit: Audit, sight: Sight) -> None:
        self._reconciler = reconciler
        self._platforms = platforms
        self._audit = audit
        self._sight = sight

    async def list(self, call: Call) -> Response:
        """GET /v1/reconciliations."""
        platform = call.query.get("platform")
        await self._platforms.check_known(platform)
        runs = await self._reconciler.listed(platform)
        return json_answer(RunPage([convert(each, RunView) for each in runs], None))

    async def one(self, call: Call) -> Response:
        """GET /v1/reconciliations/{run}."""
        found = await self._reconciler.one(call.params["run"])
        if found is None:
            raise Refusal("not_found", f"no run '{call.params['run'][:40]}'")
        view = convert(found, WholeRunView)
        shown = [await self._shown(call.who.view, each) for each in view.differences]
        lens = self._sight.lens(call.who.view)
        verified = [structs.replace(each, key=lens.key(each.key)) for each in view.verified_orders]
        return json_answer(structs.replace(view, differences=shown, verified_orders=verified))

    async def _shown(self, view: str | None, found: DifferenceView) -> DifferenceView:
        """Return a difference as it may be seen: its order, and why its callback is in its state."""
        sent = found.relay
        if sent is not None and sent.reason:
            sent = structs.replace(sent, reason=await self._sight.reason(view, sent.reason, sent.id))
        return structs.replace(found, key=self._sight.lens(view).key(found.key), relay=sent)

    async def start(self, call: Call) -> Response:
        """POST /v1/reconciliations."""
        body = object_body(call.body, allowed=("platform", "reason"))
        platform = body.get("platform", "")
        if not isinstance(platform, str):
            raise Refusal("invalid_request", "'platform' must be a text", key="platform")
        await self._audit.record(call.who, "reconcile", platform[:80], reason=body.get("reason", ""))
        try:
            started = await self._reconciler.start(platform)
        except KeyError:
            raise _not_compared(platform) from None
        except RelayError as error:
            raise Refusal("conflict", str(error)) from error
        view = convert(started, RunView)
        return json_answer(view, status=202, headers={"Location": f"/v1/reconciliations/{view.run}"})

    async def ask(self, call: Call) -> Response:
        """POST /v1/reconciliations/questions."""
        body = object_body(call.body, allowed=tuple(QUESTION))
        for key, given in body.items():
            if not isinstance(given, str):
                raise Refusal("invalid_request", f"'{key}' must be a text", key=key)
        platform = body.pop("platform", "")
        if ("page" in body) == ("order" in body):
            raise Refusal("invalid_request", "say either 'page' or 'order'", key="page")
        # What a platform answers is its own data of orders, unmasked, so that it can be compared: a look at it.
        order = mask_text(body["order"]) if "order" in body else None
        await self._audit.record(call.who, "reconcile.ask", platform[:80], order=order)
        try:
            return json_answer(await self._reconciler.ask(platform, body))
        except KeyError:
            raise _not_compared(platform) from None


def _not_compared(platform: str) -> Refusal:
    return Refusal("unknown_platform", f"'{platform[:80]}' is not compared: reconcile has no such key")
