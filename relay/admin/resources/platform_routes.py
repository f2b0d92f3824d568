"""Platforms as the operator sees them: one state with its reason, the queue, the quotas and when it will be drained.

What is pending comes from the store, what is going on (paused, breaker, cooldown) from delivery through
``PlatformControl``.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from msgspec.structs import replace

from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.filters import did_you_mean
from relay.admin.resources.part_orders import (
    PARTS,
    GroupControl,
    PlatformPart,
    no_key,
    read_part,
    without_groups,
)
from relay.admin.standing.backlog import ledger_view, platform_view
from relay.admin.standing.drain import DrainTerms
from relay.admin.standing.limit_orders import LimitOrder, how_long_s, read_order
from relay.admin.standing.sight import Sight
from relay.admin.standing.times import WallTimes
from relay.core.errors import NoGroups, StoreAway
from relay.core.model import UNROUTED, Rate
from relay.core.raw import JsonObject, Record
from relay.store.held_keys import HeldKeys
from relay.telemetry.flow import Flow
from relay.views.ledger import NO_TOTALS, AwayView, LedgerView, QueueTotals
from relay.views.live import NOTHING_KNOWN, REMOVED, LastTold, LiveFacts
from relay.views.moments import Instant, instant_text, moment
from relay.views.past.objective import ObjectiveView
from relay.views.platform import CertificateView, PlatformPage, PlatformView
from relay.views.queue import QueueFacts, QuotaUse, StoreSize
from relay.web.refusal import Refusal
from relay.web.response import Response

_DAY_S: Final = 86400.0


class PlatformControl(GroupControl, Protocol):
    """What delivery tells and lets operators do."""

    def views(self) -> Mapping[str, LiveFacts]:
        """Return per configured platform what goes on there."""
        ...

    async def pause(self, name: str, reason: str, *, until: float | None, deed: Record) -> None:
        """Send nothing more to the platform until resumed, or until a time on the relay clock; survives a restart.

        The audit record ``deed`` is committed with it.
        """
        ...

    async def resume(self, name: str) -> int:
        """End a pause; without one, every stop, also of groups, and an open breaker. Limits still hold.

        Either way what waits for a retry time is due now; returns how many callbacks that is.
        """
        ...

    async def flush(self, name: str, group: str | None = None) -> None:
        """Send what is pending, of one group where it is named, at once; retry times and limits still hold."""
        ...

    async def limit(self, name: str, rates: Sequence[Rate], *, until: float | None, reason: str) -> None:
        """Put ``rates`` in force in place of what was learned or declared; the configured ones hold beside them.

        Until a time on the relay clock, or None: until forgotten. Survives a restart. Raises KeyError.
        """
        ...

    async def forget_limit(self, name: str) -> None:
        """Drop an operator's limit and all that was learned or declared, and learn anew. Raises KeyError."""
        ...


class Queues(Protocol):
    """The part of a store that knows the queues."""

    def platform_status(self) -> Awaitable[Mapping[str, QueueFacts]]:
        """Return the queue of each platform."""
        ...

    def totals(self) -> Awaitable[Mapping[str, QueueTotals]]:
        """Return the totals of each platform."""
        ...

    def size(self) -> Awaitable[StoreSize]:
        """Return how much of the store's room is used."""
        ...


class PlatformRoutes:
    """The routes about platforms and the ledger."""

    def __init__(
        self,
        *,
        queues: Queues,
        control: PlatformControl,
        held_keys: HeldKeys,
        audit: Audit,
        sight: Sight,
        times: WallTimes,
        terms: Callable[[], Mapping[str, DrainTerms]],
        flow: Callable[[str], Flow],
        certificates: Mapping[str, Mapping[str, float]],
        objective: Callable[[str], ObjectiveView | None],
        last_told: Callable[[], Awaitable[LastTold | None]] | None,
    ) -> None:
        """Wire it. ``certificates``: when those of a platform end (since the epoch), by whose they are.

        ``last_told`` tells what a shared store told before it was away.
        """
        self._queues = queues
        self._control = control
        self._held_keys = held_keys
        self._audit = audit
        self._sight = sight
        self._times = times
        self._terms = terms
        self._flow = flow
        self._certificates = certificates
        self._objective = objective
        self._last_told = last_told

    async def list(self, call: Call) -> Response:
        """GET /v1/platforms."""
        view = call.who.view
        return self._times.answer(await (self.last_page(view) if _takes_last(call) else self.page(view)))

    async def last_page(self, view: str | None) -> PlatformPage:
        """Return all platforms; while a shared store is away as it told of them last, and ``away`` says so."""
        try:
            return await self.page(view)
        except StoreAway as away:
            told = await self._before(away)
            page = await self._page(view, told.queues, {**self._control.views(), **told.live})
            return replace(page, away=_away(told, told.queues_at))

    async def page(self, view: str | None) -> PlatformPage:
        """Return all platforms as a user with this view sees them."""
        live = self._control.views()
        return await self._page(view, await self._queues.platform_status(), live)

    async def _page(
        self, view: str | None, queues: Mapping[str, QueueFacts], live: Mapping[str, LiveFacts]
    ) -> PlatformPage:
        # Configured ones in the file's order; then what only the store still knows (removed, or the unrouted).
        names = [*live, *sorted(set(queues) - set(live))]
        return PlatformPage([await self._sight.platform(view, self._view(name, queues, live)) for name in names])

    async def _before(self, away: StoreAway) -> LastTold:
        """Return what a shared store told before it was away. Raises ``away`` where it is there after all."""
        told = None if self._last_told is None else await self._last_told()
        if told is None:
            raise away
        return told

    async def one(self, call: Call) -> Response:
        """GET /v1/platforms/{platform}."""
        return self._times.answer(await self._one(call, call.params["platform"]))

    async def ledger(self, call: Call) -> Response:
        """GET /v1/ledger."""
        return self._times.answer(await (self.last_totals() if _takes_last(call) else self.totals()))

    async def last_totals(self) -> LedgerView:
        """Return the ledger; while a shared store is away as it told it last, and ``away`` says so."""
        try:
            return await self.totals()
        except StoreAway as away:
            told = await self._before(away)
            return replace(await self._ledger(told.totals), away=_away(told, told.totals_at))

    async def totals(self) -> LedgerView:
        """Return the ledger."""
        return await self._ledger(await self._queues.totals())

    async def _ledger(self, totals: Mapping[str, QueueTotals]) -> LedgerView:
        every = {**dict.fromkeys(self._control.views(), NO_TOTALS), **totals}
        return ledger_view(every, await self._queues.size())

    async def pause(self, call: Call) -> Response:
        """POST /v1/platforms/{platform}/pause."""
        name = await self._configured(call)
        body = object_body(call.body, allowed=("for", "reason", *PARTS))
        part = read_part(body)
        for_s, reason = how_long_s(body.get("for")), body.get("reason", "")
        until = None if for_s is None else self._times.now() + for_s
        told = {} if until is None else {"until": instant_text(until, self._times.shift_s)}
        deed = self._audit.deed(call.who, "platform.pause", name, reason=reason, **told, **_named(part))
        with self._still_configured(name):
            if part is None:
                await self._control.pause(name, reason, until=until, deed=deed)
            elif part.key is not None:
                if for_s is not None:
                    raise Refusal("invalid_request", "one key is held until it is resumed: leave 'for' out", key="for")
                await self._held_keys.hold(name, part.key, reason, deed=deed)
            else:
                await self._control.pause_group(name, no_key(part, "pause"), reason, until=until, deed=deed)
        self._audit.tell(deed)
        return await self.one(call)

    async def resume(self, call: Call) -> Response:
        """POST /v1/platforms/{platform}/resume."""
        name, reason, part = await self._change(call)
        if part is not None:
            deed = self._audit.deed(call.who, "platform.resume", name, reason=reason, **_named(part))
            with self._still_configured(name):
                if part.key is not None:
                    await self._held_keys.release(name, part.key, deed=deed)
                else:
                    await self._control.resume_group(name, no_key(part, "resume"), deed=deed)
            self._audit.tell(deed)
            return await self.one(call)
        await self._audit.record(call.who, "platform.resume", name, reason=reason)
        with self._still_configured(name):
            brought = await self._control.resume(name)
        return self._times.answer(replace(await self._one(call, name), brought_forward=brought))

    async def flush(self, call: Call) -> Response:
        """POST /v1/platforms/{platform}/flush."""
        name, reason, part = await self._change(call)
        group = None if part is None else no_key(part, "flush")
        await self._audit.record(call.who, "platform.flush", name, reason=reason, **_named(part))
        with self._still_configured(name):
            await self._control.flush(name, group)
        return await self.one(call)

    async def limit(self, call: Call) -> Response:
        """POST /v1/platforms/{platform}/limit."""
        name = await self._configured(call)
        order = read_order(call.body)
        with self._still_configured(name):
            await self._limit(call, name, order)
        return await self.one(call)

    @contextmanager
    def _still_configured(self, name: str) -> Iterator[None]:
        """Answer 404 where a reload took the platform away meanwhile."""
        try:
            yield
        except NoGroups as error:
            raise without_groups(error) from error
        except KeyError as error:
            raise unknown_platform(name, self._control.views()) from error

    async def _limit(self, call: Call, name: str, order: LimitOrder) -> None:
        if order.group is not None:
            await self._limit_group(call, name, order, order.group)
            return
        if not order.rates:
            await self._audit.record(call.who, "platform.forget_limit", name, reason=order.reason)
            await self._control.forget_limit(name)
            return
        until = None if order.for_s is None else self._times.now() + order.for_s
        await self._audit.record(
            call.who,
            "platform.limit",
            name,
            reason=order.reason,
            rate=[str(rate) for rate in order.rates],
            until=instant_text(until, self._times.shift_s),
        )
        await self._control.limit(name, order.rates, until=until, reason=order.reason)

    async def _limit_group(self, call: Call, name: str, order: LimitOrder, group: str) -> None:
        until = None if order.for_s is None else self._times.now() + order.for_s
        action = "platform.limit" if order.rates else "platform.forget_limit"
        told: JsonObject = {}
        if order.rates:
            told = {"rate": [str(rate) for rate in order.rates], "until": instant_text(until, self._times.shift_s)}
        deed = self._audit.deed(call.who, action, name, reason=order.reason, group=group, **told)
        await self._control.limit_group(name, group, order.rates, until=until, reason=order.reason, deed=deed)
        self._audit.tell(deed)

    async def check_known(self, name: str | None) -> None:
        """Raise 404 ``unknown_platform`` for a platform that was never configured here nor holds anything."""
        if name is None or name in (live := self._control.views()):
            return
        known = await self._queues.totals()
        if name not in known:
            raise unknown_platform(name, [*live, *known])

    def live(self, name: str) -> LiveFacts:
        """Return the live facts of a platform; one that is not configured any more is paused."""
        return _live(name, self._control.views())

    async def quotas(self, name: str) -> Sequence[QuotaUse]:
        """Return the windows that hold a platform, as the store tells them."""
        queue = (await self._queues.platform_status()).get(name)
        return () if queue is None else queue.quotas

    async def _one(self, call: Call, name: str) -> PlatformView:
        return await self._sight.platform(call.who.view, await self._found(name))

    async def _found(self, name: str) -> PlatformView:
        live = self._control.views()
        queues = await self._queues.platform_status()
        if name not in live and name not in queues:
            raise unknown_platform(name, [*live, *queues])
        return self._view(name, queues, live)

    def _view(self, name: str, queues: Mapping[str, QueueFacts], live: Mapping[str, LiveFacts]) -> PlatformView:
        return platform_view(
            name,
            queue=queues.get(name) or QueueFacts(),
            live=_live(name, live),
            terms=self._terms().get(name),
            flow=self._flow(name),
            now=self._times.now(),
            certificate=self._certificate(name),
            objective=self._objective(name),
        )

    def _certificate(self, name: str) -> CertificateView | None:
        ends = self._certificates.get(name)
        if not ends:
            return None
        whose = min(ends, key=lambda each: ends[each])
        at = ends[whose] - self._times.shift_s  # on the relay clock, as every time of a view
        return CertificateView(whose, Instant(at), math.floor((at - self._times.now()) / _DAY_S))

    async def configured(self, name: str) -> PlatformView:
        """Return a platform of the configuration in force. Raises 404 ``unknown_platform``."""
        if name not in self._control.views():
            raise unknown_platform(name, self._control.views())
        return await self._found(name)

    async def _configured(self, call: Call) -> str:
        name = call.params["platform"]
        live = self._control.views()
        if name in live:
            return name
        if name != UNROUTED and name in await self._queues.totals():
            detail = f"platform '{name}' is no longer in the configuration; put it back and reload"
            raise Refusal("unknown_platform", detail)
        raise unknown_platform(name, live)

    async def _change(self, call: Call) -> tuple[str, str, PlatformPart | None]:
        name = await self._configured(call)
        body = object_body(call.body, allowed=("reason", *PARTS))
        return name, body.get("reason", ""), read_part(body)


def _takes_last(call: Call) -> bool:
    return call.query.get("last_known") == "1"


def _away(told: LastTold, as_of: float | None) -> AwayView:
    return AwayView(Instant(told.away_since), moment(as_of))


def _named(part: PlatformPart | None) -> JsonObject:
    """Return what an audit record says of a part of a platform; an ordering key is masked in it."""
    if part is None:
        return {}
    return {"group": part.group} if part.group is not None else {"part": {"key": part.key}}


def _live(name: str, views: Mapping[str, LiveFacts]) -> LiveFacts:
    return views.get(name, NOTHING_KNOWN if name == UNROUTED else REMOVED)


def unknown_platform(name: str, known: Iterable[str]) -> Refusal:
    """Return the problem of a platform nobody configured."""
    return Refusal("unknown_platform", f"no platform '{name[:80]}'{did_you_mean(name, dict.fromkeys(known))}")
