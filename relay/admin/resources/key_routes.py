"""The keys that the store is sealed with, and the destruction of a person's data."""

from collections.abc import Callable

from relay.admin import filters
from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.resources.operations import OperationStore
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.times import WallTimes
from relay.core.errors import NotSealed
from relay.store.sealing import Sealing
from relay.views.operation_view import OperationOptions
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

_FORGET = ("key", "before", "platform", "reason")


class KeyRoutes:
    """The routes about keys."""

    def __init__(
        self,
        *,
        sealing: Sealing,
        operations: OperationStore,
        platforms: PlatformRoutes,
        audit: Audit,
        times: WallTimes,
        started: Callable[[], None],
    ) -> None:
        """``started`` wakes what carries operations out."""
        self._sealing = sealing
        self._operations = operations
        self._platforms = platforms
        self._audit = audit
        self._times = times
        self._started = started

    async def show(self, call: Call) -> Response:
        """GET /v1/keys."""
        return json_answer(await self._sealing.status())

    async def rotate(self, call: Call) -> Response:
        """POST /v1/keys/rotate."""
        body = object_body(call.body, allowed=("reason",))
        deed = self._audit.deed(call.who, "keys.rotate", "*", reason=body.get("reason", ""))
        try:
            rotated = await self._sealing.rotate(deed=deed)
        except NotSealed as error:
            raise Refusal("not_sealed", str(error)) from error
        self._audit.tell(deed)
        return json_answer(rotated)

    async def forget(self, call: Call) -> Response:
        """POST /v1/keys/forget."""
        body = object_body(call.body, allowed=_FORGET)
        if ("key" in body) == ("before" in body):
            raise Refusal("invalid_request", "say either 'key' or 'before': whose or which days' data is destroyed")
        if not str(body.get("reason", "")).strip():
            raise Refusal("invalid_request", "'reason' is missing: what is destroyed cannot be had back", key="reason")
        given = {"key": body.get("key"), "platform": body.get("platform"), "until": body.get("before")}
        given = {name: value for name, value in given.items() if value is not None}
        wanted = filters.parse(given, now=self._times.now(), shift_s=self._times.shift_s)
        await self._platforms.check_known(wanted.platform)
        about = {} if wanted.key is None else {"key": self._sealing.mark(wanted.key)}
        before = {} if wanted.until is None else {"before": body["before"]}
        deed = self._audit.deed(
            call.who, "keys.forget", wanted.platform or "*", reason=body["reason"], **about, **before
        )
        operation = await self._operations.start_operation(
            "forget",
            wanted,
            options=OperationOptions(who=call.who.name, reason=body["reason"]),
            expect_count=None,
            deed=deed,
        )
        self._audit.tell(deed)
        self._started()
        return self._times.answer(operation, status=202, headers={"Location": f"/v1/operations/{operation.id}"})
