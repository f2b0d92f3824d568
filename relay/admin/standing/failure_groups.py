"""Adds up groups of failures part by part, platform by platform, within a bounded time."""

from collections.abc import Awaitable, Callable, Iterable

from relay.admin.standing.breakdown import BUDGET_S
from relay.core.clock import elapsed_s
from relay.views.moments import Instant
from relay.views.past.survey import FailureGroup, GroupCounts, GroupPage, GroupStep

_MOST_GROUPS = 1000  # reasons come from fixed sets, codes from the platforms


async def failure_groups(
    platforms: Iterable[str],
    look: Callable[[str, int | None], Awaitable[GroupStep]],
    *,
    budget_s: float = BUDGET_S,
) -> GroupPage:
    """Return the groups of ``platforms``, the largest first; ``look(platform, below)`` groups the next part of one.

    After ``budget_s`` what was not looked at is left out, and the answer says so.
    """
    began_s = elapsed_s()
    found: dict[tuple[str, str, str | None], GroupCounts] = {}
    complete = True
    for platform in platforms:
        below: int | None = None
        while complete:
            step = await look(platform, below)
            for group in step.groups:
                known = found.setdefault((platform, group.reason, group.code), group)
                if known is not group:
                    known.add(group)
            below = step.below
            if below is None:
                break
            complete = elapsed_s() - began_s < budget_s
    complete = complete and len(found) <= _MOST_GROUPS
    views = [_view(platform, group) for (platform, _, _), group in found.items()]
    views.sort(key=lambda view: (-view.count, -view.last_seen, view.platform))
    return GroupPage(items=views[:_MOST_GROUPS], complete=complete)


def _view(platform: str, group: GroupCounts) -> FailureGroup:
    return FailureGroup(
        platform=platform,
        reason=group.reason,
        code=group.code,
        message=group.message,
        count=group.count,
        first_seen=Instant(group.first_at),
        last_seen=Instant(group.last_at),
        sample=group.sample,
    )
