"""Limits as operators see and set them: each with where it comes from, and the one an operator asks for."""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

from relay.admin.call import flag, object_body
from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration, parse_rate
from relay.core.model import Rate
from relay.core.quotas import CONFIGURED, quota_group, quota_shared, quota_source
from relay.core.raw import JsonObject
from relay.views.limit_view import QuotaView
from relay.views.queue import QuotaUse
from relay.web.refusal import Refusal

GROUPS_SHOWN = 10
_LONGEST_S = 30 * 86400.0  # what should hold for longer belongs into the configuration, where it is reviewed
_MOST_RATES = 4  # nobody announces more than a limit per second, minute, hour and day
_KEYS = ("rate", "for", "forget", "reason", "group")


@dataclass(frozen=True, slots=True)
class LimitOrder:
    """What an operator asks for: these rates (``for_s`` seconds, None: until forgotten), or without any to forget."""

    rates: tuple[Rate, ...]
    for_s: float | None
    reason: str
    group: str | None = None  # None: for the whole platform


def read_order(body: bytes) -> LimitOrder:
    """Return what the body of ``POST /v1/platforms/{platform}/limit`` asks for.

    Raises 400 ``invalid_json`` or ``invalid_request``, the latter with the ``key`` that is wrong.
    """
    given = object_body(body, allowed=_KEYS)
    reason = given.get("reason", "")
    if flag(given, "forget"):
        for key in ("rate", "for"):
            if key in given:
                raise _refused(key, f"'{key}' and 'forget' contradict each other: send one of them")
        return LimitOrder((), None, reason, _group(given))
    if "rate" not in given:
        raise _refused(
            "rate", "'rate' is missing: a limit such as 80/min, a list of them, or \"forget\": true to learn anew"
        )
    return LimitOrder(_rates(given["rate"]), how_long_s(given.get("for")), reason, _group(given))


def _group(given: JsonObject) -> str | None:
    group = given.get("group")
    if group is not None and not isinstance(group, str):
        raise _refused("group", '\'group\' must be a text: {"group": "17"}')
    return group


def _rates(given: Any) -> tuple[Rate, ...]:
    texts = given if isinstance(given, list) else [given]
    if not 1 <= len(texts) <= _MOST_RATES:
        raise _refused("rate", f"'rate' takes 1 to {_MOST_RATES} limits, not {len(texts)}")
    rates: dict[float, Rate] = {}
    for text in texts:
        if isinstance(text, dict | list):
            raise _refused("rate", f"'rate': write a string such as \"80/min\", or a list of up to {_MOST_RATES}")
        try:
            rate = parse_rate(text)
        except BadValue as error:
            raise _refused("rate", _told("rate", error)) from error
        if (other := rates.setdefault(rate.window_s, rate)) is not rate:
            raise _refused("rate", f"'rate': {other} and {rate} are limits over the same window; keep the lower one")
    return tuple(sorted(rates.values(), key=lambda rate: rate.window_s))


def how_long_s(given: Any) -> float | None:
    """Return the ``for`` of a limit or a pause in seconds, None where it is left out. Raises a 400."""
    if given is None:
        return None
    try:
        for_s = parse_duration(given)
    except BadValue as error:
        raise _refused("for", _told("for", error)) from error
    if for_s <= 0:
        raise _refused("for", "'for' must be above 0: leave it out for no end")
    if for_s > _LONGEST_S:
        raise _refused("for", "'for' is longer than 30d: leave it out for no end, or change the configuration")
    return for_s


def _told(key: str, error: BadValue) -> str:
    return f"'{key}': {error.message}; {error.hint}" if error.hint else f"'{key}': {error.message}"


def _refused(key: str, detail: str) -> Refusal:
    return Refusal("invalid_request", detail, key=key)


def quota_views(quotas: Iterable[QuotaUse]) -> list[QuotaView]:
    """Return the windows that hold a platform; of limits that single groups have, those that are used most."""
    whole: list[QuotaView] = []
    groups: list[QuotaView] = []
    for quota in quotas:
        view = QuotaView(
            quota=quota.quota,
            window_s=quota.window_s,
            limit=quota.limit,
            used=min(quota.used, quota.limit),
            free_at=quota.free_at,
            uses=quota.uses,
            sent=quota.used,
            source=quota_source(quota.quota),
            group=quota_group(quota.quota),
            unit=quota.unit,
            calendar=quota.calendar,
            unknown=quota.unknown,
        )
        (groups if view.group else whole).append(view)
    fullest = nlargest(GROUPS_SHOWN, groups, key=lambda quota: quota.used / quota.limit)
    return whole + fullest


def full_quota(quotas: Iterable[QuotaUse], *, group: str | None = None) -> QuotaUse | None:
    """Return the window without a free slot whose next one comes last, or None while each has one.

    Of limits that groups have of their own only the one of ``group`` counts, with None any.
    """
    full = [
        quota
        for quota in quotas
        if quota.used >= quota.limit and (group is None or quota_group(quota.quota) in ("", group))
    ]
    return max(full, key=lambda quota: quota.free_at or 0.0, default=None)


def origin(quota: str) -> str:
    """Return where a quota's limit comes from in words: ``learned``, ``configured, quota wechat-app``."""
    source, group, shared = quota_source(quota), quota_group(quota), quota_shared(quota)
    if group:
        return f"{source}, group {group}"
    return f"{source}, quota {shared}" if source == CONFIGURED and shared else source
