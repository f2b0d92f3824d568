"""The hosts that share the store, and handing platforms over from one to another."""

from collections.abc import Awaitable
from typing import Protocol

from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.standing.times import WallTimes
from relay.views.hosts import ALONE, HandedOver, HostPage
from relay.views.live import LastTold
from relay.web.refusal import Refusal
from relay.web.response import Response


class NoSuccessor(Exception):
    """No other host would take over; the message says so."""


class HostControl(Protocol):
    """What the daemon knows of the hosts."""

    def page(self) -> HostPage:
        """Return all hosts."""
        ...

    def last_told(self) -> Awaitable[LastTold | None]:
        """Return what the store told before it was away; None while it is there."""
        ...

    def release(self, platform: str | None) -> Awaitable[dict[str, str]]:
        """Hand over what shares quotas with ``platform``, from whichever host has it; None: all that this host has.

        Returns by platform who takes over. Raises ``KeyError``, ``NoSuccessor`` and ``StoreError``.
        """
        ...


class HostRoutes:
    """The routes about hosts; without a shared store there is nobody to hand over to."""

    def __init__(self, *, hosts: HostControl | None, audit: Audit, times: WallTimes) -> None:
        self._hosts = hosts
        self._audit = audit
        self._times = times

    async def list(self, call: Call) -> Response:
        """GET /v1/hosts."""
        return self._times.answer(ALONE if self._hosts is None else self._hosts.page())

    async def release(self, call: Call) -> Response:
        """POST /v1/hosts/release."""
        body = object_body(call.body, allowed=("platform", "reason"))
        platform = body.get("platform")
        if platform is not None and not isinstance(platform, str):
            raise Refusal("invalid_request", "platform is a name", key="platform")
        if self._hosts is None:
            raise Refusal("conflict", str(ALONE.reason))
        await self._audit.record(call.who, "hosts.release", (platform or "")[:80], reason=body.get("reason", ""))
        try:
            return self._times.answer(HandedOver(platforms=await self._hosts.release(platform)))
        except KeyError:
            raise Refusal("unknown_platform", f"no platform '{str(platform)[:80]}'") from None
        except NoSuccessor as nobody:
            raise Refusal("conflict", str(nobody)) from None
