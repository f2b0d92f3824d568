"""What happened: the series of a platform or of all of them, and what came of what was accepted lately."""

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from relay.admin import filters
from relay.admin.access import Permission
from relay.admin.call import Call
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.breakdown import LATE_S, breakdown
from relay.admin.standing.failure_groups import failure_groups
from relay.admin.standing.series import LONGEST_5S_S, STEPS, check_begun, check_span, read_step, series
from relay.admin.standing.sight import Sight
from relay.admin.standing.times import WallTimes
from relay.store.history import MinuteHistory
from relay.store.survey import Kind, Surveys
from relay.views.past.history import RequestCounts, Sampled, summed
from relay.web.response import Response

ALL: Final = "_all"
_A_DAY: Final = "24h"
_DEFAULT_SINCE: Final = {"5s": "15m", "1m": "2h", "10m": "1d", "1h": "7d"}


class Samples(Protocol):
    """What of the history is only in memory; ``upkeep.sampling.Sampling`` is one. ``platform`` None: all of them."""

    def unsaved(self, platform: str | None) -> RequestCounts:
        """Return what the running minute has counted so far."""
        ...

    def oldest_due_s(self, platform: str | None) -> Awaitable[float]:
        """Return how long the oldest due callback has waited, now."""
        ...

    def recent(self, platform: str | None) -> Sequence[Sampled]:
        """Return the last 15 minutes in spans of 5 s."""
        ...

    def running(self, platform: str | None) -> Awaitable[Sampled]:
        """Return the 5 s under way."""
        ...


class HistoryRoutes:
    """The routes about the past."""

    def __init__(
        self,
        *,
        history: MinuteHistory,
        surveys: Surveys,
        samples: Samples,
        platforms: PlatformRoutes,
        sight: Sight,
        times: WallTimes,
    ) -> None:
        self._history = history
        self._surveys = surveys
        self._samples = samples
        self._platforms = platforms
        self._sight = sight
        self._times = times

    async def series(self, call: Call) -> Response:
        """GET /v1/platforms/{platform}/series."""
        name = call.params["platform"]
        platform = None if name == ALL else name
        await self._platforms.check_known(platform)
        step = call.query.get("step", "1m")
        step_s = read_step(step)
        now, shift_s = self._times.now(), self._times.shift_s
        given = {"since": call.query.get("since", _DEFAULT_SINCE[step])}
        since = filters.parse(given, now=now, shift_s=shift_s).since or 0.0
        if step_s == STEPS["5s"]:
            since = max(since, now - LONGEST_5S_S) if since <= now else since
        check_span(since, now, step_s)
        spans = await (self._ticks(platform) if step_s == STEPS["5s"] else self._minutes(platform, since, now, step_s))
        return self._times.answer(series(spans, since=since, now=now, step_s=step_s))

    async def breakdown(self, call: Call) -> Response:
        """GET /v1/breakdown."""
        by = call.query.get("by", "platform")
        if by not in ("platform", "event"):
            raise filters.InvalidFilter("by", f"'by' is '{by[:20]}': there are platform and event")
        now = self._times.now()
        given = {"since": call.query.get("since", _A_DAY)}
        since = filters.parse(given, now=now, shift_s=self._times.shift_s).since or 0.0
        check_begun(since, now)
        kind: Kind = "event" if by == "event" else "platform"
        return self._times.answer(
            await breakdown(lambda below: self._surveys.channels(kind, since, late_before=now - LATE_S, below=below))
        )

    async def groups(self, call: Call) -> Response:
        """GET /v1/dead-letters/groups."""
        now = self._times.now()
        wanted, held = filters.grouped(dict(call.query), now=now, shift_s=self._times.shift_s)
        if wanted.key is not None:  # how many of one order there are tells of single callbacks
            call.who.require(Permission.VIEW)
        check_begun(wanted.since or 0.0, now)
        await self._platforms.check_known(wanted.platform)
        names = [wanted.platform] if wanted.platform is not None else list(await self._history.levels())
        page = await failure_groups(
            names, lambda name, below: self._surveys.groups(name, wanted, held=held, below=below)
        )
        samples = call.who.may(Permission.VIEW)
        items = await self._sight.groups(call.who.view, page.items, samples=samples)
        return self._times.answer(replace(page, items=items))

    async def _ticks(self, platform: str | None) -> list[Sampled]:
        return [*self._samples.recent(platform), await self._samples.running(platform)]

    async def _minutes(self, platform: str | None, since: float, now: float, step_s: int) -> list[Sampled]:
        """Return the minutes from the start of the first step on; the running one with what only memory knows."""
        spans = list(await self._history.minutes(platform, since // step_s * step_s, now))
        last = spans[-1]
        spans[-1] = replace(
            last,
            counts=summed((last.counts, self._samples.unsaved(platform))),
            oldest_due_s=await self._samples.oldest_due_s(platform),
        )
        return spans
