"""What is reported of callbacks that were accepted: counts, dead letters, and when the first of them expires."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Protocol

from relay.core.model import UNROUTED, Accepted, AcceptedPosts, NewCallback, RoutedPost
from relay.ingest.posts import REASON
from relay.web.server import ListenerEvents

_EXPIRES_S = attrgetter("expires_s")


class IntakeEvents(ListenerEvents, Protocol):
    """The events of the intake; ``telemetry.events.Events`` has them."""

    def accepted(self, *, platform: str, count: int, duplicates: int) -> None:
        """``count`` new callbacks are on disk; ``duplicates`` repeats were answered with their first ids."""
        ...

    def dead(self, *, platform: str, count: int, reason: str) -> None:
        """``count`` callbacks became dead letters."""
        ...


class RowsToReport:
    """What is reported of rows of one platform once they are accepted; kept without the rows, which the store frees."""

    __slots__ = ("_dead", "_platform", "soonest_s")

    def __init__(self, rows: Sequence[NewCallback]) -> None:
        self.soonest_s = min(map(_EXPIRES_S, rows))
        self._platform = rows[0].platform
        self._dead = dead_rows(rows)

    def report(self, accepted: Accepted, events: IntakeEvents, expiring: Callable[[float], None]) -> None:
        """Report them as accepted."""
        expiring(self.soonest_s)
        duplicates = len(accepted.duplicates)
        events.accepted(platform=self._platform, count=len(accepted.ids) - duplicates, duplicates=duplicates)
        report_dead(events, self._dead, accepted.duplicates)


def dead_rows(rows: Sequence[NewCallback]) -> dict[int, tuple[str, str]]:
    """Return platform and reason of the rows that are dead from the start, by their index."""
    return {index: (row.platform, row.dead_reason) for index, row in enumerate(rows) if row.dead_reason is not None}


def report_dead(events: IntakeEvents, dead: Mapping[int, tuple[str, str]], duplicates: Collection[int]) -> None:
    """Emit an event for the rows that were dead from the start, for each platform and reason."""
    counts = Counter(about for index, about in dead.items() if index not in duplicates)
    for (platform, reason), count in counts.items():
        events.dead(platform=platform, count=count, reason=reason)


def report_posts(
    posts: Sequence[RoutedPost], accepted: AcceptedPosts, events: IntakeEvents, expiring: Callable[[float], None]
) -> tuple[int, int]:
    """Report routed posts. Return how many callbacks are new, and how many were accepted earlier."""
    fresh: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    for index, ids in enumerate(accepted.ids):
        (repeated if index in accepted.duplicates else fresh).update(ids.keys())
    for platform in fresh | repeated:
        events.accepted(platform=platform, count=fresh[platform], duplicates=repeated[platform])
    new = (post for index, post in enumerate(posts) if index not in accepted.duplicates)
    report_dead(events, dead_rows([row for post in new for row in post.rows]), ())
    if fresh[UNROUTED]:
        events.dead(platform=UNROUTED, count=fresh[UNROUTED], reason=REASON)
    expiring(min((row.expires_s for post in posts if post.dead_reason is None for row in post.rows), default=math.inf))
    return fresh.total(), repeated.total()
