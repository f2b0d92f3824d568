"""A payload as it came, shown to one person once: with the right, the own token again, a reason, and a record of it."""

import asyncio

from relay.admin.access import Access, Caller
from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.resources.callbacks import Callbacks
from relay.admin.reveals import REFUSED, REVEALED, RevealLimit
from relay.admin.sessions import Tries
from relay.admin.standing.sight import unknown_callback
from relay.core.clock import Clock
from relay.privacy.masking import revealed
from relay.views.callback_view import RevealView
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer


class RevealRoutes:
    """``POST /v1/callbacks/{id}/reveal``."""

    def __init__(self, *, callbacks: Callbacks, access: Access, audit: Audit, limit: RevealLimit, clock: Clock) -> None:
        self._callbacks = callbacks
        self._access = access
        self._audit = audit
        self._limit = limit
        self._clock = clock
        self._tries = Tries()
        self._counting = asyncio.Lock()  # between the look at the number and the record nobody else counts

    async def reveal(self, call: Call) -> Response:
        """Answer the payload. Raises 400, 403, 404 and 429; each is recorded as refused."""
        try:
            return await self._reveal(call)
        except Refusal as refusal:
            if refusal.code not in ("store_full", "store_failed"):
                await self._audit.record(call.who, REFUSED, call.params["id"], reason=refusal.code)
            raise

    async def _reveal(self, call: Call) -> Response:
        body = object_body(call.body, allowed=("reason", "token"))
        reason, token = body.get("reason", ""), body.get("token")
        if not reason.strip():
            raise Refusal("invalid_request", "'reason' is missing: why the payload must be seen", key="reason")
        if not isinstance(token, str):
            raise Refusal("invalid_request", "'token' is missing: your own token, as a second proof", key="token")
        self._check_own(call.who, token)
        found = await self._callbacks.callback(call.params["id"], payload=True)
        if found is None or not isinstance(found.payload, bytes):
            raise unknown_callback(call.params["id"])
        async with self._counting:
            left_s = await self._limit.left_s(call.who.name)
            if left_s is not None:
                detail = f"privacy.reveals allows {call.who.name} no more payloads; the next in {left_s:.0f} s"
                raise Refusal("too_many_reveals", detail, headers={"Retry-After": str(max(1, round(left_s)))})
            await self._audit.record(call.who, REVEALED, found.id, reason=reason)
        shown = revealed(found.payload)
        return json_answer(
            RevealView(id=found.id, payload=shown.payload, payload_form=shown.form, payload_bytes=shown.payload_bytes)
        )

    def _check_own(self, who: Caller, token: str) -> None:
        """Raise 403 unless ``token`` is that of the user who asks, and 429 after ten wrong ones in a minute."""
        now = self._clock.now()
        if self._tries.too_many(who.name, now):
            raise Refusal("too_many_tries", "ten wrong tokens were given as a second proof; wait a minute")
        owner = self._access.owner(token)
        if owner is None or owner.name != who.name:
            self._tries.wrong(who.name, now)
            raise Refusal("forbidden", "'token' must be your own token", key="token")
