"""What ``GET /v1/events`` tells of: platforms, the ledger, operations, alerts and the configuration."""

import hashlib
from functools import partial
from typing import Any, Final

from relay.admin.resources.alerts import Alarms
from relay.admin.resources.configuration import ConfigAccess
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.feed import Topic, changed_ledger, changed_operations, changed_platforms
from relay.admin.standing.sight import Sight
from relay.admin.standing.times import WallTimes
from relay.store.journal import Journal
from relay.views.configuration import ConfigVersion
from relay.views.past.journal import JournalFilter
from relay.web.response import encoded

_OPERATIONS: Final = 20  # the newest; those under way are among them


class EventTopics:
    """The topics, each with how to look at it."""

    def __init__(
        self,
        *,
        platforms: PlatformRoutes,
        journal: Journal,
        alarms: Alarms,
        config: ConfigAccess,
        sight: Sight,
        times: WallTimes,
    ) -> None:
        self._sight = sight
        self._platforms = platforms
        self._journal = journal
        self._alarms = alarms
        self._config = config
        self._times = times

    def of(self, view: str | None, *, callbacks: bool) -> tuple[Topic, ...]:
        """Return the topics for who has a view; those that tell only how much of what, unless ``callbacks``."""
        totals = (
            Topic("platforms", partial(self._all_platforms, view), changed_platforms),
            Topic("ledger", self._ledger, changed_ledger),
        )
        if not callbacks:
            return totals
        return (
            *totals,
            Topic("operation", partial(self._operations, view), changed_operations),
            Topic("alerts", self._alerts),
            Topic("config", self._configuration),
        )

    async def _all_platforms(self, view: str | None) -> Any:
        return self._times.told(await self._platforms.last_page(view))

    async def _ledger(self) -> Any:
        return self._times.told(await self._platforms.last_totals())

    async def _operations(self, view: str | None) -> Any:
        page = await self._journal.operations(JournalFilter(), cursor=None, limit=_OPERATIONS)
        return [self._times.told(self._sight.operation(view, each)) for each in page.items]

    async def _alerts(self) -> Any:
        return self._times.told(self._alarms.page())

    async def _configuration(self) -> Any:
        """Tell when another configuration is in force (another ``version``) or a reload was refused; not all of it."""
        now, refused = self._config.effective(), self._config.refused()
        version = hashlib.blake2s(encoded([now.config, now.origins]), digest_size=8).hexdigest()
        return self._times.told(ConfigVersion(file=now.file, version=version, refused_reload=refused))
