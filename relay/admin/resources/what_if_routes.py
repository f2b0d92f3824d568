"""Trying a change: the traffic of the last hour under the settings in force and under others. Nothing is changed."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from relay.admin.call import Call, object_body
from relay.admin.resources.configuration import ConfigAccess
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.times import WallTimes
from relay.config.load import examine
from relay.core.model import Filter
from relay.core.raw import JsonObject
from relay.store.history import MINUTE_S, MinuteHistory
from relay.views.callback_view import ListedCallback
from relay.views.limit_view import LimitView
from relay.views.moments import Instant
from relay.views.past.what_if import WhatIfJob, WhatIfResult, WhatIfView
from relay.web.refusal import Refusal
from relay.web.response import Response

_SPAN_S: Final = 3600.0
_MOST: Final = 50_000  # callbacks: 15 s of a core for both runs; of a busier hour the end of it is taken
_MOST_WAITING: Final = 200_000  # callbacks: 40 s of a core for both runs
_PAGE: Final = 1000
_CHANGES: Final = ("rate", "burst", "concurrency", "batch")
# What of a platform's settings the model looks at. How it authorises and what its answers mean is left out.
_MODELLED: Final = (
    *_CHANGES, "quotas", "timeout", "envelope", "compress", "group", "coalesce", "expires", "retry", "on_dead",
    "breaker", "learn_limit", "learn_floor",
)  # fmt: skip
_UNKNOWN_ANSWER_S: Final = (0.05, 0.2)
_SHORTEST_ANSWER_S: Final = 0.001


class Arrivals(Protocol):
    """The part of a store that lists callbacks."""

    def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> Awaitable[tuple[list[ListedCallback], str | None]]:
        """Return one page, newest first, and the cursor of the next page or None."""
        ...


class WhatIfRoutes:
    """The route that tries a change.

    ``answer_s(platform)`` is how long its answers take on average, None without one; ``work_out`` runs a job.
    """

    def __init__(
        self,
        *,
        listing: Arrivals,
        history: MinuteHistory,
        platforms: PlatformRoutes,
        config: ConfigAccess,
        times: WallTimes,
        answer_s: Callable[[str], float | None],
        work_out: Callable[[WhatIfJob], Awaitable[WhatIfResult]],
    ) -> None:
        self._listing = listing
        self._history = history
        self._platforms = platforms
        self._config = config
        self._times = times
        self._answer_s = answer_s
        self._work_out = work_out

    async def simulate(self, call: Call) -> Response:
        """POST /v1/platforms/{platform}/simulate."""
        name = call.params["platform"]
        changed = object_body(call.body, allowed=_CHANGES)
        if not changed:
            raise Refusal("invalid_request", f"say what to try: one or more of {', '.join(_CHANGES)}")
        limit = (await self._platforms.configured(name)).learned_limit
        in_force = self._config.effective()
        own: JsonObject = in_force.config.get("platforms", {}).get(name, {})
        now_text = _config_text(in_force.config, name, own)
        tried_text = _config_text(in_force.config, name, _merged(own, changed))
        if problems := examine(tried_text, path=in_force.file):
            first = problems[0]
            detail = f"{first.message}; {first.hint}" if first.hint else first.message
            raise Refusal("invalid_request", detail, key=next((key for key in changed if key in first.message), ""))
        until = self._times.now()
        start, arrivals = await self._arrivals(name, until)
        waiting = await self._waiting(name, start)
        if not arrivals and not waiting:
            raise Refusal("invalid_request", "nothing came in during the last hour, so there is nothing to try it on")
        if waiting > _MOST_WAITING:
            detail = f"{waiting:,} callbacks waited, too many to work out beside delivery; use relay simulate --replay"
            raise Refusal("overloaded", detail)
        limits = _believed(limit)
        result = await self._work_out(
            WhatIfJob(
                platform=name,
                file=in_force.file,
                configs={"now": now_text, "tried": tried_text},
                arrivals=arrivals,
                span_s=until - start,
                waiting=waiting,
                limits=limits,
                answer_s=_around(self._answer_s(name)),
            )
        )
        return self._times.answer(
            WhatIfView(
                start=Instant(start),
                until=Instant(until),
                callbacks=len(arrivals),
                waiting=waiting,
                limits=limits,
                assumed=result.assumed,
                settings=_same_keys(own, changed),
                changed=changed,
                now=result.figures["now"],
                tried=result.figures["tried"],
            )
        )

    async def _arrivals(self, name: str, until: float) -> tuple[float, list[tuple[float, int | None]]]:
        """Return when the span begins, and the time and key of each callback accepted in it, oldest first."""
        start = (until - _SPAN_S) // MINUTE_S * MINUTE_S
        numbers: dict[str, int] = {}
        found: list[tuple[float, int | None]] = []
        cursor: str | None = None
        while True:
            items, cursor = await self._listing.callbacks(
                Filter(platform=name, since=start), cursor=cursor, limit=_PAGE
            )
            for each in items:
                key = None if each.key is None else numbers.setdefault(each.key, len(numbers))
                found.append((each.accepted_at, key))
            if cursor is None:
                break
            if len(found) >= _MOST:
                start = found[-1][0]
                break
        return start, [(at - start, key) for at, key in sorted(found, key=lambda each: each[0]) if at >= start]

    async def _waiting(self, name: str, start: float) -> int:
        """Return how many callbacks waited at the start of the minute of ``start``, or of the next one that is kept."""
        first = (await self._history.minutes(name, start // MINUTE_S * MINUTE_S, self._times.now()))[0]
        ended = first.delivered + first.dead + first.expired + first.superseded
        return max(0, first.pending - first.accepted + ended)


def _config_text(config: JsonObject, name: str, platform: JsonObject) -> str:
    """Return a configuration of one platform with what the model looks at. JSON is YAML too."""
    kept = {key: platform[key] for key in _MODELLED if key in platform}
    quotas = {quota: config["quotas"][quota] for quota in kept.get("quotas", ())}
    return json.dumps({"version": 1, "quotas": quotas, "platforms": {name: {"url": "http://127.0.0.1/", **kept}}})


def _merged(own: JsonObject, changed: JsonObject) -> JsonObject:
    """Return the settings with the changes; of a section that is changed the other keys stay."""
    return {**own, **{key: _inside(own.get(key), value) for key, value in changed.items()}}


def _inside(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


def _same_keys(own: JsonObject, changed: JsonObject) -> JsonObject:
    """Return the settings in force under the keys of ``changed``."""
    return {
        key: {inner: own[key].get(inner) for inner in value} if isinstance(value, dict) else own.get(key)
        for key, value in changed.items()
    }


def _believed(limit: LimitView | None) -> list[str]:
    return [rate.text for rate in limit.rates] if limit is not None and limit.enforced else []


def _around(mean_s: float | None) -> tuple[float, float]:
    if mean_s is None:
        return _UNKNOWN_ANSWER_S
    return max(_SHORTEST_ANSWER_S, mean_s / 2), max(2 * _SHORTEST_ANSWER_S, mean_s * 1.5)
