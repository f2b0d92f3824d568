"""A platform with a token endpoint, over real sockets: it hands out tokens, checks and revokes them."""

import asyncio
import base64
from collections import Counter
from typing import Any

from aiohttp import web
from relay.core.clock import wall_s


class TokenPlatform:
    """``/token`` (RFC 6749), ``/cgi-bin/token`` (WeChat's way) and ``/callbacks``, which wants a valid token.

    ``/echo`` refuses everything and repeats the request.
    """

    def __init__(self) -> None:
        self.issued = 0
        self.prefix = "t"
        self.valid: set[str] = set()
        self.refresh_token = "r0"
        self.lives_s: float | None = 7200.0
        self.rotates = True
        self.refusal: dict[str, Any] | None = None
        self.hold: asyncio.Event | None = None
        self.asked: list[dict[str, str]] = []
        self.arrivals: list[tuple[str, str, str, int]] = []  # shop, batch, token, status
        self.bodies: list[tuple[dict[str, str], bytes]] = []
        self.queries: list[str] = []
        self.banned: set[str] = set()  # shops that refuse any token
        self.headers: dict[str, str] = {}
        self.ahead_s: float | None = None  # checks X-Time, by a clock that is so far ahead of ours
        self.runner: web.AppRunner | None = None
        self.base = ""

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_get("/cgi-bin/token", self._wechat)
        app.router.add_post("/callbacks/{shop}", self._callbacks)
        app.router.add_post("/echo/{rest}", self._echo)
        self.runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        host, port = self.runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close the listener."""
        assert self.runner is not None
        await self.runner.cleanup()

    def revoke(self) -> None:
        """No token handed out so far is good any more."""
        self.valid.clear()

    @property
    def statuses(self) -> Counter[int]:
        """How many requests for callbacks were answered how."""
        return Counter(status for *_, status in self.arrivals)

    def _in_time(self, request: web.Request) -> bool:
        if self.ahead_s is None:
            return True
        return abs(int(request.headers["X-Time"]) - wall_s() - self.ahead_s) < 300

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        if self.hold is not None:
            await self.hold.wait()
        if self.refusal is not None:
            return web.json_response(self.refusal, status=400)
        if form["grant_type"] == "refresh_token" and form["refresh_token"] != self.refresh_token:
            return web.json_response({"error": "invalid_grant", "error_description": "used before"}, status=400)
        answer = self._issue()
        if form["grant_type"] == "refresh_token" and self.rotates:
            self.refresh_token = f"r{self.issued}"
            answer["refresh_token"] = self.refresh_token
        return web.json_response(answer)

    async def _wechat(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        if request.query.get("secret") != "app-secret":
            return web.json_response({"errcode": 40125, "errmsg": "invalid appsecret"})
        self.valid.clear()  # WeChat: another token ends the one before
        return web.json_response(self._issue())

    def _issue(self) -> dict[str, Any]:
        self.issued += 1
        token = f"{self.prefix}{self.issued}"
        self.valid.add(token)
        return {"access_token": token} | ({} if self.lives_s is None else {"expires_in": self.lives_s})

    async def _echo(self, request: web.Request) -> web.Response:
        """An error page that repeats what was asked, as it came, in base64 and as URL."""
        told = f"{request.raw_path} {request.rel_url.query} " + " ".join(request.headers.values())
        coded = " ".join(base64.b64encode(value.encode()).decode() for value in request.headers.values())
        return web.Response(status=400, text=f"said {request.headers['X-Auth']} {told} {coded}")

    async def _callbacks(self, request: web.Request) -> web.Response:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = request.query.get("access_token") or bearer
        shop = request.match_info["shop"]
        status = 200 if token in self.valid and shop not in self.banned and self._in_time(request) else 401
        self.arrivals.append((shop, request.headers["Idempotency-Key"], token, status))
        self.queries.append(request.rel_url.raw_query_string)
        self.bodies.append((dict(request.headers), await request.read()))
        return web.Response(status=status, headers=self.headers)
