"""The two routes by which the order center takes back what has not gone yet."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp.web import BaseRequest

from relay.core.errors import StoreError
from relay.core.model import Cancelled
from relay.ingest.post_options import MAX_KEY_BYTES, text
from relay.ingest.posts import Directory, check_granted
from relay.store.base import Inbox
from relay.views.callback_view import CallbackView
from relay.views.post_answers import CancelledView, TakenBackView
from relay.web.dispatch import Routes
from relay.web.guard import Bearer
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

Describe = Callable[[str], Awaitable[CallbackView | None]]
_WHY = {
    "final": "it has ended already; nothing was done",
    "in_flight": "it is in a request that was recorded, so the platform may get it; nothing was done",
    "unknown_callback": "there is no callback with this id, or it was removed",
}


class TakeBack:
    """``DELETE`` of one callback, or of all that is pending of an ordering key."""

    def __init__(self, inbox: Inbox, describe: Describe) -> None:
        """Wire it. ``describe`` returns a callback: a token that is for some platforms takes back of these alone."""
        self._inbox = inbox
        self._describe = describe

    def add_to(self, routes: Routes, *, bearer: Bearer, directory: Directory) -> None:
        """Serve both, for who has the token, and the platforms of ``directory``."""

        async def one(request: BaseRequest, values: Mapping[str, str]) -> Response:
            granted = bearer.check(request)
            if granted is not None:
                await self._check_own(values["id"], granted)
            await _checked(self._inbox.cancel(values["id"]))
            return json_answer(CancelledView(id=values["id"]))

        async def of_key(request: BaseRequest, values: Mapping[str, str]) -> Response:
            name = values["platform"]
            check_granted(bearer.check(request), (name,))
            directory.platform(name)
            given = request.query.getall("key", [])
            if len(given) != 1 or set(request.query) != {"key"}:
                raise Refusal("invalid_request", "say which ordering key, and nothing else: ?key=991", key="key")
            key = text("key", given[0], MAX_KEY_BYTES) or ""
            found = await _checked(self._inbox.cancel_key(name, key))
            return json_answer(TakenBackView(len(found.ids), list(found.ids)))

        routes.add("DELETE", "/v1/callbacks/{id}", one)
        routes.add("DELETE", "/v1/platforms/{platform}/callbacks", of_key)

    async def _check_own(self, callback_id: str, granted: frozenset[str]) -> None:
        """Raise 404 for a callback of a platform that the token is not for, as if there were none."""
        try:
            found = await self._describe(callback_id)
        except StoreError as error:
            raise Refusal("store_failed", "the store cannot be read now; nothing was done") from error
        if found is None or found.platform not in granted:
            raise Refusal("unknown_callback", _WHY["unknown_callback"])


async def _checked(asked: Awaitable[Cancelled]) -> Cancelled:
    try:
        found = await asked
    except StoreError as error:
        raise Refusal("store_failed", "it is not known whether it was taken back; ask again") from error
    if found.why:
        code = "unknown_callback" if found.why == "unknown" else found.why
        raise Refusal(code, _WHY[code])
    return found
