"""How long what waits would take under the settings in force and under others, before those are put in force."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from relay.admin.standing.backlog import drain_eta_s
from relay.config.reading.units import parse_rate
from relay.core.quotas import quota_group
from relay.core.raw import JsonObject
from relay.views.configuration import ReloadView
from relay.views.platform import PlatformView
from relay.views.queue import QuotaUse

_SENDS = ("ok", "limited", "throttled")


class _Terms(NamedTuple):
    """What decides how fast a platform's queue is sent: its windows, and how many callbacks a request takes."""

    quotas: Sequence[QuotaUse]
    batch_items: int


class Effect(NamedTuple):
    """In how many seconds what waits for a platform is sent, if nothing new comes; None: no limit holds it."""

    platform: str
    waiting: int
    now_s: float | None
    then_s: float | None


def effects(planned: ReloadView, platforms: Sequence[PlatformView], config: JsonObject) -> list[Effect]:
    """Return what a planned reload does to the queue of each platform whose rate or batch size it changes.

    ``config`` is what is in force. With 54 pending, all 6 slots used and ``rate: 6/min -> 30/min`` it is 9 minutes now
    and one then: 24 go at once.
    """
    changed = {change.path: change.new for change in planned.changes}
    found = []
    for view in platforms:
        rate, items = (f"platforms.{view.name}.{key}" for key in ("rate", "batch.max_items"))
        waiting = view.pending - view.held
        if waiting <= 0 or view.state not in _SENDS or not {rate, items} & set(changed):
            continue
        own = config.get("platforms", {}).get(view.name, {})
        quotas = [quota for quota in view.quotas if not quota_group(quota.quota)]
        now = _Terms(quotas, own.get("batch", {}).get("max_items") or 1)
        then = _Terms(
            _with_rate(quotas, changed[rate]) if rate in changed else quotas, changed.get(items) or now.batch_items
        )
        found.append(Effect(view.name, waiting, *(drain_eta_s(waiting, *terms) for terms in (now, then))))
    return found


def _with_rate(quotas: Sequence[QuotaUse], rate: Any) -> list[QuotaUse]:
    """Return the windows with another ``rate``; what was sent counts in a window of the same length."""
    texts = [rate] if isinstance(rate, str) else list(rate or ())
    kept = [quota for quota in quotas if not _is_rate(quota)]
    used = {quota.window_s: quota.used for quota in quotas if _is_rate(quota)}
    found = [parse_rate(text) for text in texts]
    return [*kept, *(QuotaUse("platform", each.window_s, each.limit, used.get(each.window_s, 0)) for each in found)]


def _is_rate(quota: QuotaUse) -> bool:
    return quota.quota.startswith("platform:") and quota.unit == "requests" and not quota.calendar
