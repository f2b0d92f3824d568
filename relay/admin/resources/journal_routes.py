"""Lists of what people did: audit records and operations, in pages, newest first."""

from typing import Final

from msgspec.structs import replace

from relay.admin import filters
from relay.admin.call import Call
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.deeds_asked import wanted_audits, wanted_operations
from relay.admin.standing.sight import Sight
from relay.admin.standing.times import WallTimes
from relay.store.journal import Journal
from relay.views.past.journal import ChainPage
from relay.web.response import Response

_MOST_DIGITS: Final = 18  # of a record's number: what a store's integers hold


class JournalRoutes:
    """The routes about what people did."""

    def __init__(self, *, journal: Journal, platforms: PlatformRoutes, sight: Sight, times: WallTimes) -> None:
        self._journal = journal
        self._sight = sight
        self._platforms = platforms
        self._times = times

    async def audits(self, call: Call) -> Response:
        """GET /v1/audit."""
        page = wanted_audits(call.query, self._times)
        found = await self._journal.audits(page.wanted, cursor=page.cursor, limit=page.limit)
        return self._times.answer(page.told(found))

    async def audit_head(self, call: Call) -> Response:
        """GET /v1/audit/head."""
        return self._times.answer(await self._journal.audit_head())

    async def chain(self, call: Call) -> Response:
        """GET /v1/audit/chain."""
        limit, text = filters.page_size(call.query.get("limit")), call.query.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise filters.InvalidFilter("after", "'after' must be the number of an audit record, 0 for the start")
        return self._times.answer(ChainPage(await self._journal.chain(after=int(text), limit=limit)))

    async def operations(self, call: Call) -> Response:
        """GET /v1/operations."""
        page = wanted_operations(call.query, self._times)
        await self._platforms.check_known(page.wanted.platform)
        found = await self._journal.operations(page.wanted, cursor=page.cursor, limit=page.limit)
        items = [self._sight.operation(call.who.view, each) for each in found.items]
        return self._times.answer(page.told(replace(found, items=items)))
