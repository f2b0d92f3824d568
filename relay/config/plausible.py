"""Values that can be read and are hardly meant: a batch of one byte, a timeout of ten years."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from relay.config.problems import BadValue
from relay.config.reading.yaml_source import KeyPath
from relay.config.report.translate import PlacedProblem, dotted
from relay.config.schema.file import Config
from relay.config.schema.platform import PlatformSection
from relay.core.model import seconds_text

_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0
_MIB, _GIB = 2**20, 2**30


class _Bounds(NamedTuple):
    """What lies between these is meant; outside, ``why`` it is probably not."""

    key: str
    low: float
    high: float
    why: str


_OF_PLATFORM = (
    _Bounds("timeout", 0.1, 10 * _MINUTE_S, "a request under way keeps its slot and its order all that time"),
    _Bounds("expires", 1.0, 365 * _DAY_S, "it is how long a callback may wait before it is given up"),
    _Bounds("batch.linger", 0.0, _HOUR_S, "callbacks wait that long although they could be sent"),
    _Bounds("batch.max_bytes", 256, _GIB, "it bounds the body of one request"),
    _Bounds("retry.backoff.base", 0.05, _HOUR_S, "it is the first wait before a re-send"),
    _Bounds("retry.backoff.cap", 0.05, 7 * _DAY_S, "it is the longest wait before a re-send"),
    _Bounds("breaker.probe_every", 1.0, _DAY_S, "it is how often a platform that is down is tried"),
)
_OF_THE_REST = (
    _Bounds("ingest.max_body", 256, _GIB, "it bounds one payload"),
    _Bounds("ingest.max_bulk", 256, 4 * _GIB, "it bounds one NDJSON request, which is held in memory"),
    _Bounds("store.max_size", _MIB, 2**44, "it is the room for everything that waits"),
    _Bounds("store.keep.delivered", _MINUTE_S, 3650 * _DAY_S, "idempotency keys live as long"),
    _Bounds("store.keep.dead", _HOUR_S, 3650 * _DAY_S, "a person must have seen them by then"),
    _Bounds("store.keep.history", _MINUTE_S, 3650 * _DAY_S, "it is how long what has ended can be looked up"),
    _Bounds(
        "store.keep.samples",
        _HOUR_S,
        366 * _DAY_S,
        "it is how far back the charts go; a minute of a platform takes 60 bytes",
    ),
)


def implausible(config: Config) -> Iterator[PlacedProblem]:
    """Yield a warning (W013) for each value that lies far from what anybody means."""
    for bounds in _OF_THE_REST:
        yield from _outside(config, (), bounds)
    yield from _history(config)
    yield from _compared(config)
    for name, platform in config.platforms.items():
        for bounds in _OF_PLATFORM:
            yield from _outside(platform, ("platforms", name), bounds)
        if platform.timeout > platform.expires:
            path: KeyPath = ("platforms", name, "timeout")
            what = f"{dotted(path)} is longer than expires: a callback expires while its first request is under way"
            yield PlacedProblem(path, BadValue("W013", what, "shorten it"))
        if platform.send is not None and platform.send.hours.closed_a_day_s >= platform.expires:
            path = ("platforms", name, "send", "between")
            closed, expires = (f"{each / 3600:g}h" for each in (platform.send.hours.closed_a_day_s, platform.expires))
            what = f"{dotted(path)}: closed for {closed} a day, but callbacks expire after {expires}"
            yield PlacedProblem(path, BadValue("W013", what, "let them live longer, or they end at night"))


def _history(config: Config) -> Iterator[PlacedProblem]:
    """Yield a warning where a history is asked for and none is kept."""
    keep, path = config.store.keep, ("store", "keep", "history")
    if keep.history is None:
        return
    if config.server is None:
        what = f"{dotted(path)} is not used with sqlite: callbacks stay in that file for delivered and dead"
        yield PlacedProblem(path, BadValue("W010", what, "remove it, and raise those two"))
    elif keep.history <= min(keep.delivered, keep.dead):
        shown, least = seconds_text(keep.history), seconds_text(min(keep.delivered, keep.dead))
        what = f"{dotted(path)}: {shown} after its end a callback still lies on the server ({least}), so none is kept"
        yield PlacedProblem(path, BadValue("W013", what, "it counts from the end, as delivered and dead do: raise it"))


def _compared(config: Config) -> Iterator[PlacedProblem]:
    """Yield a warning for each comparison that looks back further than the store does."""
    kept = config.store.keep.delivered
    for name, section in config.reconcile.items():
        if section.span > kept:
            path: KeyPath = ("reconcile", name, "span")
            what = (
                f"{dotted(path)}: a span of {seconds_text(section.span)} is compared, but what was delivered stays for "
                f"{seconds_text(kept)} (store.keep.delivered): then nothing tells whether it was sent (pruned)"
            )
            yield PlacedProblem(path, BadValue("W013", what, "raise store.keep.delivered; history files do not count"))


def never_sent(config: Config) -> Iterator[PlacedProblem]:
    """Yield an error (E051) where every callback would expire, or be late, before it may be sent."""
    for name, platform in config.platforms.items():
        gathers_s = platform.coalesce.max if platform.coalesce.quiet else 0.0
        owner: KeyPath = ("platforms", name)
        lived: list[tuple[str, str, float]] = [
            ("batch", "linger", platform.batch.linger),
            ("coalesce", "max", gathers_s),
        ]
        expires = seconds_text(platform.expires)
        for section, key, wait_s in lived:
            if wait_s >= platform.expires:
                path: KeyPath = (*owner, section, key)
                what = f"{dotted(path)}: callbacks wait {seconds_text(wait_s)} to be sent, but expire after {expires}"
                yield _clash(path, (*owner, "expires"), what, f"shorten {key}, or let them live longer")
        if platform.objective is not None:
            yield from _never_in_time(owner, platform, platform.objective.within)


def _never_in_time(owner: KeyPath, platform: PlatformSection, within_s: float) -> Iterator[PlacedProblem]:
    """Yield what makes every callback late, or none ever."""
    within: KeyPath = (*owner, "objective", "within")
    if within_s >= platform.expires:
        expires = seconds_text(platform.expires)
        what = f"{dotted(within)}: callbacks expire after {expires}, before they could be late"
        yield _clash(within, (*owner, "expires"), what, "shorten within, or let them live longer")
    waits = (("batch", "linger", platform.batch.linger), ("coalesce", "quiet", platform.coalesce.quiet))
    for section, key, wait_s in waits:
        if wait_s >= within_s:
            path: KeyPath = (*owner, section, key)
            waited, late = seconds_text(wait_s), seconds_text(within_s)
            what = f"{dotted(path)}: callbacks wait {waited} to be sent, but are late after {late}"
            yield _clash(path, within, what, f"shorten {key}, or raise objective.within")


def _clash(path: KeyPath, other: KeyPath, what: str, hint: str) -> PlacedProblem:
    return PlacedProblem(path, BadValue("E051", what, hint), relies_on=(path, other))


def _outside(owner: Any, at: KeyPath, bounds: _Bounds) -> Iterator[PlacedProblem]:
    value = owner
    for part in bounds.key.split("."):
        value = getattr(value, part, None)
    if not isinstance(value, int | float) or bounds.low <= value <= bounds.high:
        return
    parts = tuple(part for part in bounds.key.split(".") if part not in ("base", "cap"))
    path = (*at, *parts)
    size = bounds.key.rpartition(".")[2] in ("max_body", "max_bulk", "max_size", "max_bytes")
    shown = f"{value} bytes" if size else seconds_text(value)
    few = "little" if value < bounds.low else "much"
    yield PlacedProblem(
        path, BadValue("W013", f"{dotted(path)}: {shown} is very {few}: {bounds.why}", "see that it is meant")
    )
