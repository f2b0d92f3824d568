"""``/v1/quotas/{quota}/take``, ``release`` and ``report`` on the ingest listener."""

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from aiohttp.web import BaseRequest

from relay.config.problems import nearest, quoted
from relay.core.clock import Clock, wall_shift_s
from relay.core.errors import StoreError
from relay.core.lending import LentSlots, LimitName
from relay.core.model import WaitUntil
from relay.ingest.lending.desk import LendingDesk
from relay.ingest.lending.orders import ReleaseOrder, ReportOrder, TakeOrder, read_order
from relay.ingest.posts import check_granted
from relay.views.moments import Instant
from relay.views.post_answers import ReleasedSlots, ReportedRequests, TakenSlots
from relay.web.body import Unbounded, read_body
from relay.web.decoding import Decoder
from relay.web.dispatch import Routes
from relay.web.guard import Bearer
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

_BODY_BYTES: Final = 64 * 1024
_BODY_S: Final = 10.0
_MOST_NAME: Final = 64  # characters of an unknown name that are compared
_LONGEST_RETRY_S: Final = 3600.0


class QuotaRoutes:
    """The three routes."""

    def __init__(self, desk: LendingDesk, *, decode: Decoder, clock: Clock, wall: Callable[[], float]) -> None:
        self._desk = desk
        self._decode = decode
        self._clock = clock
        self._wall = wall

    def add_to(self, routes: Routes, bearer: Bearer) -> None:
        """Serve them behind the listener's token."""

        async def take(request: BaseRequest, values: Mapping[str, str]) -> Response:
            return await self._take(await self._read(request, bearer), values["quota"], request)

        async def release(request: BaseRequest, values: Mapping[str, str]) -> Response:
            return await self._release(await self._read(request, bearer), values["quota"])

        async def report(request: BaseRequest, values: Mapping[str, str]) -> Response:
            return await self._report(await self._read(request, bearer), values["quota"])

        for name, handler in (("take", take), ("release", release), ("report", report)):
            routes.add("POST", f"/v1/quotas/{{quota}}/{name}", handler)

    async def _read(self, request: BaseRequest, bearer: Bearer) -> "_Asked":
        granted = bearer.check(request)
        parts = await read_body(request, limit=_BODY_BYTES, timeout_s=_BODY_S, decode=self._decode, reserve=Unbounded())
        return _Asked(self._desk, b"".join(parts), granted)

    async def _take(self, asked: "_Asked", quota: str, request: BaseRequest) -> Response:
        """Answer with slots, or that none came free."""
        order = read_order(TakeOrder, asked.body)
        wait_s = order.wait_s()
        of = _known(asked, quota, order.group)
        try:
            found = await asked.desk.take(of, order.n, wait_s, gone=lambda: request.transport is None)
        except StoreError as error:
            raise _failed() from error
        if isinstance(found, WaitUntil):
            raise self._refused(found, quota)
        return self._answer(found)

    def _answer(self, found: LentSlots) -> Response:
        shift_s = wall_shift_s(self._clock.now(), self._wall())
        return json_answer(TakenSlots(found.ids, Instant(found.send_by)), shift_s=shift_s)

    def _refused(self, wait: WaitUntil, quota: str) -> Refusal:
        if wait.reason == "never":
            return Refusal("never_fits", f"the limit of {quoted(quota)} is smaller than 'n': take fewer at once")
        if wait.reason == "unknown":
            return Refusal("unknown_quota", f"{quoted(quota)} is no longer configured")
        if wait.reason == "closed":
            return Refusal("stopping", close=True)
        left_s = wait.at - self._clock.now()
        retry_s = math.ceil(min(max(left_s, 1.0), _LONGEST_RETRY_S)) if math.isfinite(left_s) else 1
        why = {
            "throttled": "the platform asked to be left alone",
            "share": "it is the turn of others",
        }.get(wait.reason, "all slots are taken")
        return Refusal("no_slot", f"{why}; ask again, or wait longer", headers={"Retry-After": str(retry_s)})

    async def _release(self, asked: "_Asked", quota: str) -> Response:
        """Answer how many slots were given back; they are known by their names."""
        order = read_order(ReleaseOrder, asked.body)
        order.check()
        of = _known(asked, quota, "")
        try:
            return json_answer(ReleasedSlots(await asked.desk.release(of, order.slots, unused=order.unused)))
        except StoreError as error:
            raise _failed() from error

    async def _report(self, asked: "_Asked", quota: str) -> Response:
        """Count what was sent anyway, and stop the platforms where one was refused."""
        order = read_order(ReportOrder, asked.body)
        wait_s = order.wait_s()
        of = _known(asked, quota, order.group)
        try:
            await asked.desk.report(of, order.n, refused=order.refused, wait_s=wait_s)
        except StoreError as error:
            raise _failed() from error
        return json_answer(ReportedRequests(order.n))


class _Asked(NamedTuple):
    """One of the three requests: who is asked, with what, and for which platforms its token is (None: all)."""

    desk: LendingDesk
    body: bytes
    granted: frozenset[str] | None


def _known(asked: _Asked, name: str, group: str) -> LimitName:
    desk = asked.desk
    found = desk.find(name, group)
    if found is None:
        hint = nearest(name[:_MOST_NAME], desk.names()) or "name one under `quotas:`, or a platform"
        raise Refusal("unknown_quota", f"no quota {quoted(name)} is configured; {hint}")
    check_granted(asked.granted, desk.under(found))
    return found


def _failed() -> Refusal:
    return Refusal("store_failed", "the store cannot commit now; nothing was handed out")
