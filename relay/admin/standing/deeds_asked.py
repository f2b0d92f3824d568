"""What a query of the lists of deeds asks for: a page of audit records or of operations, newest first."""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from relay.admin import filters
from relay.admin.standing.times import WallTimes
from relay.core.raw import JsonObject
from relay.views.operation_view import OperationPage
from relay.views.past.journal import AuditPage, JournalFilter

AUDIT_KEYS: Final = ("who", "action", "target", "since", "until")
OPERATION_KEYS: Final = ("who", "action", "platform", "state", "since", "until")
OPERATION_ACTIONS: Final = ("retry", "drop", "expire", "resolve", "resend", "forget")
OPERATION_STATES: Final = {"running": True, "done": False}

_Page = TypeVar("_Page", AuditPage, OperationPage)


class WantedPage(NamedTuple):
    """A page of a list: which deeds, from where on, how many."""

    wanted: JournalFilter
    cursor: str | None
    limit: int
    query: Mapping[str, str]  # without cursor and limit

    def told(self, found: _Page) -> _Page:
        """Return a store's page with the cursor that this list gives out."""
        return replace(found, next=filters.given_out(found.next, dict(self.query)))


def wanted_audits(query: Mapping[str, str], times: WallTimes) -> WantedPage:
    """Return what a query with ``AUDIT_KEYS`` asks for. Raises 400 ``invalid_filter``."""
    page = _page(query, times)
    return page._replace(wanted=replace(page.wanted, target=query.get("target")))


def wanted_operations(query: Mapping[str, str], times: WallTimes) -> WantedPage:
    """Return what a query with ``OPERATION_KEYS`` asks for. Raises 400 ``invalid_filter``."""
    page = _page(query, times)
    _known(query, "action", OPERATION_ACTIONS)
    _known(query, "state", tuple(OPERATION_STATES))
    state = query.get("state")
    running = None if state is None else OPERATION_STATES[state]
    return page._replace(wanted=replace(page.wanted, platform=query.get("platform"), running=running))


def _page(query: Mapping[str, str], times: WallTimes) -> WantedPage:
    asked = dict(query)
    text, limit = asked.pop("cursor", None), filters.page_size(asked.pop("limit", None))
    for key, value in asked.items():
        if why := filters.nothing_said(value):
            raise filters.InvalidFilter(key, f"'{key}' {why}")
    span: JsonObject = {key: asked[key] for key in ("since", "until") if key in asked}
    moments = filters.parse(span, now=times.now(), shift_s=times.shift_s)
    wanted = JournalFilter(who=asked.get("who"), action=asked.get("action"), since=moments.since, until=moments.until)
    return WantedPage(wanted, filters.taken_back(text, asked), limit, asked)


def _known(query: Mapping[str, str], key: str, words: tuple[str, ...]) -> None:
    """Raise 400 ``invalid_filter`` for a word that there is not."""
    word = query.get(key)
    if word is not None and word not in words:
        detail = f"'{key}' is '{word[:80]}'{filters.did_you_mean(word[:80], words)}"
        raise filters.InvalidFilter(key, detail)
