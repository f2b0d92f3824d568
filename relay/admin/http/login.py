"""Who asks: by a bearer token, as programs do, or by the session cookie that a browser gets for one.

A browser sends the cookie by itself, so a change made with it must also say that one of our own pages asks (Origin).
SameSite=Strict keeps other sites from using it at all (RFC 6265bis section 8.8).
"""

from collections.abc import Mapping

from aiohttp.web import BaseRequest

from relay.admin.access import Access, Caller, Permission, caller, stranger
from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.http.endpoint import peer, store_problems, whole_body
from relay.admin.sessions import LASTS_S, Sessions, Tries
from relay.core.clock import Clock
from relay.views.who import WhoView
from relay.web.dispatch import Routes
from relay.web.guard import from_own_page
from relay.web.openapi import Answered, Described
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

PATH = "/v1/session"
COOKIE = "relay_session"
_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Strict"
_LOOKS = ("GET", "HEAD")
_MOST_TOKEN_BYTES = 8192
_NOBODYS = "a token of none of admin.users"
ROUTES = (
    Described(
        listeners=("admin",),
        method="POST",
        path=PATH,
        summary="A session's cookie for the token of one of admin.users",
        body={"application/json": {"type": "object", "properties": {"token": {"type": "string"}}}},
        answers={204: Answered("The cookie is in Set-Cookie")},
        problems=("invalid_json", "invalid_request", "unauthorized", "forbidden_origin", "conflict", "too_many_tries"),
    ),
    Described(
        listeners=("admin",),
        method="DELETE",
        path=PATH,
        summary="End the session of the cookie",
        answers={204: Answered("It has ended")},
        problems=("forbidden_origin",),
    ),
)
"""What anybody may ask for: to be let in, and to be let go."""


class Login:
    """Begins and ends sessions, and tells who a request comes from."""

    def __init__(self, *, access: Access, audit: Audit, clock: Clock) -> None:
        self._access = access
        self._audit = audit
        self._clock = clock
        self._sessions = Sessions()
        self._tries = Tries()
        self._told = Tries()  # wrong tokens in headers: those that are recorded

    def add_to(self, routes: Routes) -> None:
        """Serve what anybody may ask for: to be let in, and to be let go."""
        routes.add("POST", PATH, self._begin)
        routes.add("DELETE", PATH, self._end)

    def identify(self, request: BaseRequest) -> Caller:
        """Return who asks. Raises 401 ``unauthorized``, 403 ``forbidden`` or ``forbidden_origin``."""
        remote, local = peer(request)
        authorization = request.headers.get("Authorization")
        secret = request.cookies.get(COOKIE)
        if authorization is None and secret is not None and self._access.asks:
            user = self._sessions.user(secret, self._clock.now())
            if user is not None and self._access.knows(user):
                if request.method not in _LOOKS:
                    _check_own(request)
                return caller(user, remote)
        return self._access.identify(authorization, remote=remote, local=local)

    async def admit(self, request: BaseRequest, needs: Permission, path: str) -> Caller:
        """Return who asks, if ``needs`` is granted. Raises what ``identify`` does, and 403 ``forbidden``.

        A wrong token is recorded, and so is a payload that somebody may not see and asked for.
        """
        try:
            who = self.identify(request)
        except Refusal as refusal:
            if refusal.code == "unauthorized" and "Authorization" in request.headers:
                await self._record_wrong(peer(request)[0], path)
            raise
        if needs is Permission.REVEAL and not who.may(needs):
            await self._audit.record(who, "payload.reveal_refused", path, reason=f"the role {who.role} may not")
        who.require(needs)
        return who

    async def _record_wrong(self, remote: str, path: str) -> None:
        """Record a wrong token; ten a minute from one address, so that a flood of them fills no disk."""
        now = self._clock.now()
        if not self._told.too_many(remote, now):
            self._told.wrong(remote, now)
            await self._audit.record(stranger(remote), "login.failed", path, reason=_NOBODYS)

    async def show(self, call: Call) -> Response:
        """GET /v1/session."""
        may = [str(each) for each in Permission if call.who.may(each)]
        who = WhoView(name=call.who.name, role=call.who.role, may=may, login=self._access.asks)
        return json_answer(who)

    async def _begin(self, request: BaseRequest, values: Mapping[str, str]) -> Response:
        """POST /v1/session: a cookie for a token."""
        now, (remote, _) = self._clock.now(), peer(request)
        if "Origin" in request.headers:
            _check_own(request)
        if not self._access.asks:
            raise Refusal("conflict", "no admin.users are configured, so there is nobody to log in as")
        if self._tries.too_many(remote, now):
            raise Refusal("too_many_tries", "ten wrong tokens came from this address within a minute; wait a minute")
        token = object_body(await whole_body(request, _MOST_TOKEN_BYTES), allowed=("token",)).get("token")
        if not isinstance(token, str):
            raise Refusal("invalid_request", "'token' must be the token of one of admin.users, as a string")
        user = self._access.owner(token)
        if user is None:
            self._tries.wrong(remote, now)
            with store_problems():
                await self._audit.record(stranger(remote), "login.failed", PATH, reason=_NOBODYS)
            raise Refusal("unauthorized", "this is the token of none of admin.users")
        return _told(request, self._sessions.begin(user, now), int(LASTS_S))

    async def _end(self, request: BaseRequest, values: Mapping[str, str]) -> Response:
        """DELETE /v1/session. Without a session there is nothing to end."""
        secret = request.cookies.get(COOKIE)
        if secret is not None:
            _check_own(request)
            self._sessions.end(secret)
        return _told(request, "", 0)


def _check_own(request: BaseRequest) -> None:
    if not from_own_page(request):
        raise Refusal("forbidden_origin", "a session's cookie works from the relay's own pages alone (Origin)")


def _told(request: BaseRequest, secret: str, lasts_s: int) -> Response:
    transport = request.transport
    over_tls = transport is not None and transport.get_extra_info("sslcontext") is not None
    secure = "; Secure" if over_tls or request.headers.get("Origin", "").startswith("https://") else ""
    cookie = f"{COOKIE}={secret}; Max-Age={lasts_s}; {_ATTRIBUTES}{secure}"
    return Response(204, headers={"Set-Cookie": cookie, "Cache-Control": "no-store"})
