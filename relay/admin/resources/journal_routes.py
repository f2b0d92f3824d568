"""Lists of what people did: audit records and operations, in pages, newest first."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from relay.admin import filters
from relay.admin.call import Call
from relay.admin.resources.operations import ACTIONS
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.sight import Sight
from relay.admin.standing.times import WallTimes
from relay.store.journal import Journal
from relay.views.past.journal import ChainPage, JournalFilter
from relay.web.response import Response

AUDIT_KEYS: Final = ("who", "action", "target", "since", "until")
OPERATION_KEYS: Final = ("who", "action", "platform", "state", "since", "until")
_MOST_DIGITS: Final = 18  # of a record's number: what a store's integers hold
_STATES: Final = {"running": True, "done": False}


class JournalRoutes:
    """The routes about what people did."""

    def __init__(self, *, journal: Journal, platforms: PlatformRoutes, sight: Sight, times: WallTimes) -> None:
        self._journal = journal
        self._sight = sight
        self._platforms = platforms
        self._times = times

    async def audits(self, call: Call) -> Response:
        """GET /v1/audit."""
        query = dict(call.query)
        text, limit = query.pop("cursor", None), filters.page_size(query.pop("limit", None))
        wanted = replace(self._wanted(query), target=query.get("target"))
        found = await self._journal.audits(wanted, cursor=filters.taken_back(text, query), limit=limit)
        return self._times.answer(replace(found, next=filters.given_out(found.next, query)))

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
        query = dict(call.query)
        text, limit = query.pop("cursor", None), filters.page_size(query.pop("limit", None))
        wanted = self._wanted(query)
        _known(query, "action", (*ACTIONS, "forget"))
        _known(query, "state", tuple(_STATES))
        platform = query.get("platform")
        await self._platforms.check_known(platform)
        state = query.get("state")
        wanted = replace(wanted, platform=platform, running=None if state is None else _STATES[state])
        found = await self._journal.operations(wanted, cursor=filters.taken_back(text, query), limit=limit)
        items = [self._sight.operation(call.who.view, each) for each in found.items]
        return self._times.answer(replace(found, items=items, next=filters.given_out(found.next, query)))

    def _wanted(self, query: Mapping[str, str]) -> JournalFilter:
        for key, value in query.items():
            if why := filters.nothing_said(value):
                raise filters.InvalidFilter(key, f"'{key}' {why}")
        times = {key: query[key] for key in ("since", "until") if key in query}
        span = filters.parse(times, now=self._times.now(), shift_s=self._times.shift_s)
        return JournalFilter(who=query.get("who"), action=query.get("action"), since=span.since, until=span.until)


def _known(query: Mapping[str, str], key: str, words: tuple[str, ...]) -> None:
    """Raise 400 ``invalid_filter`` for a word that there is not."""
    word = query.get(key)
    if word is not None and word not in words:
        detail = f"'{key}' is '{word[:80]}'{filters.did_you_mean(word[:80], words)}"
        raise filters.InvalidFilter(key, detail)
