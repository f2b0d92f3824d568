"""How long what waits would take under the settings in force and under others, before those are put in force."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from relay.admin.standing.drain import DrainTerms, Side, drain_eta_s
from relay.config.reading.windows import parse_window
from relay.core.quotas import quota_group
from relay.core.raw import JsonObject
from relay.views.configuration import ReloadView
from relay.views.platform import PlatformView
from relay.views.queue import QuotaUse

_SENDS = ("ok", "limited", "throttled")


class Effect(NamedTuple):
    """In how many seconds what waits for a platform is sent, if nothing new comes; None: no limit holds it."""

    platform: str
    waiting: int
    now_s: float | None
    then_s: float | None


def effects(planned: ReloadView, platforms: Sequence[PlatformView], config: JsonObject) -> list[Effect]:
    """Return what a planned reload does to the queue of each platform whose rate, burst or batch size it changes.

    ``config`` is what is in force. With 54 pending, all 6 slots used and ``rate: 6/min -> 30/min`` it is 9 minutes now
    and one then: 24 go at once.
    """
    changed = {change.path: change.new for change in planned.changes}
    found = []
    for view in platforms:
        rate, items, burst = (f"platforms.{view.name}.{key}" for key in ("rate", "batch.max_items", "burst"))
        waiting = view.pending - view.held
        if waiting <= 0 or view.state not in _SENDS or not {rate, items, burst} & set(changed):
            continue
        own = config.get("platforms", {}).get(view.name, {})
        quotas: list[QuotaUse] = [quota for quota in view.quotas if not quota_group(quota.quota)]
        terms = DrainTerms(own.get("batch", {}).get("max_items") or 1, math.inf, own.get("burst"))
        now_s = drain_eta_s(waiting, Side(quotas, view.requests_allowed), terms)
        if rate in changed:
            quotas = _with_rate(quotas, changed[rate])
        terms = DrainTerms(changed.get(items) or terms.batch_items, math.inf, changed.get(burst, terms.burst))
        then_s = drain_eta_s(waiting, Side(quotas, view.requests_allowed), terms)
        found.append(Effect(view.name, waiting, now_s, then_s))
    return found


def _with_rate(quotas: Sequence[QuotaUse], rate: Any) -> list[QuotaUse]:
    """Return the windows with another ``rate``; what was sent counts in a window of the same length."""
    texts = [rate] if isinstance(rate, str) else list(rate or ())
    kept = [quota for quota in quotas if not _is_rate(quota)]
    used = {(quota.window_s, quota.calendar): quota.used for quota in quotas if _is_rate(quota)}
    windows = []
    for each in map(parse_window, texts):
        calendar = str(each.calendar or "")
        taken = used.get((each.window_s, calendar), 0)
        windows.append(QuotaUse("platform:", each.window_s, each.limit, taken, calendar=calendar))
    return [*kept, *windows]


def _is_rate(quota: QuotaUse) -> bool:
    return quota.quota.startswith("platform:") and quota.unit == "requests"
