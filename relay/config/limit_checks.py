"""Limits that contradict each other."""

from collections.abc import Iterator
from typing import Any

from relay.config.reading.yaml_source import KeyPath
from relay.config.report.translate import PlacedProblem, dotted, problem_at
from relay.config.schema.allowed.counted import CountedLimits
from relay.config.schema.file import QuotaSettings
from relay.config.schema.platform import PlatformSection
from relay.core.model import window_text


def bursts(owner: KeyPath, section: Any) -> Iterator[PlacedProblem]:
    """Check a burst: above the smallest limit it could never happen, without a rate it means nothing."""
    if section.burst is None:
        return
    path = (*owner, "burst")
    if not section.rate and not (isinstance(section, QuotaSettings) and not section.counted):
        what = f"{dotted(path)} needs a rate beside it"
        yield problem_at(path, "E051", what, "add rate: N/min", relies_on=[(*owner, "rate")])
        return
    if not section.rate:
        return  # a quota without any limit, which is said already
    tightest = min(section.rate, key=lambda rate: rate.limit)
    if section.burst > tightest.limit:
        what = f"{dotted(path)}: {section.burst} requests back to back exceed the rate {tightest}"
        yield problem_at(
            path, "E051", what, f"write {tightest.limit} or less, or leave it out", relies_on=[(*owner, "rate")]
        )


def reserves(owner: KeyPath, quota: QuotaSettings) -> Iterator[PlacedProblem]:
    """Check what is kept for others: a part of a window of the quota, and not all of it."""
    path = (*owner, "reserve")
    limits = {rate.window_s: rate.limit for rate in quota.rate if rate.plain}
    for rate in quota.reserve:
        if rate.window_s not in limits:
            windows = " or ".join(f"N/{window_text(window_s)}" for window_s in limits)
            what = f"{dotted(path)}: {rate} has no window of the quota"
            yield problem_at(path, "E051", what, f"write {windows}", relies_on=[path, (*owner, "rate")])
        elif rate.limit >= limits[rate.window_s]:
            what = f"{dotted(path)}: {rate} leaves nothing of {limits[rate.window_s]} to the relay itself"
            yield problem_at(path, "E051", what, "keep less for others", relies_on=[path, (*owner, "rate")])


def counted(owner: KeyPath, section: CountedLimits) -> Iterator[PlacedProblem]:
    """Check limits of items, bytes and points, and calendar windows: each must let one callback go."""
    points = section.points
    if points is not None and isinstance(points.cost, int):
        for rate in points.rate:
            if points.cost > rate.limit:
                path = (*owner, "points", "cost")
                what = f"{dotted(path)}: {points.cost} points for each callback never fit into {rate}"
                yield problem_at(path, "E051", what, "raise the rate", relies_on=[(*owner, "points")])


def shares(owner: KeyPath, platform: PlatformSection) -> Iterator[PlacedProblem]:
    """Check shares: of groups there must be some, and of a quota others must be there to share it with."""
    if platform.group_share and platform.group is None:
        path = (*owner, "group_share")
        what = f"{dotted(path)}: there are no groups to share between"
        yield problem_at(path, "E051", what, "add group: FIELD, or remove it", relies_on=[(*owner, "group")])
    if platform.share != 1 and not platform.quotas:
        path = (*owner, "share")
        what = f"{dotted(path)}: it shares no quota with anybody"
        yield problem_at(path, "E051", what, "add quotas: [NAME], or remove it", relies_on=[(*owner, "quotas")])


def named_limits(owner: KeyPath, quota: QuotaSettings) -> Iterator[PlacedProblem]:
    """Check that a quota has a limit at all."""
    if not quota.rate and not quota.counted:
        what = f"{dotted(owner)} has no limit"
        yield problem_at(owner, "E011", what, "add rate: 40/s, or items, bytes or points", relies_on=[(*owner, "rate")])
