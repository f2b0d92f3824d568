"""A platform to test against: a real HTTP server with limits, latency and faults that writes down what arrives.

The way of a request:

1. It arrives. It is counted when its headers are there.
2. An outage, the limits, the checks of its body and the random faults decide what happens to it, in this order.
3. The decision is recorded and takes effect at once.
4. The answer waits for the latency. So what a client gave up waiting for was applied all the same, as in the field.
"""

import asyncio
import math
import random
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from relay.core.clock import boottime_s, wall_s
from relay.core.raw import JsonObject
from relay.standin.arrivals import Arrival, ArrivalLog
from relay.standin.bodies import digest
from relay.standin.closable_socket import ClosableSocket
from relay.standin.endpoint import MAX_BODY_BYTES, Endpoint, Examined
from relay.standin.personalities.exchange import PlatformAnswer, PlatformRequest
from relay.standin.reactions import CUT, ERRCODE_BODY, OK, Reaction
from relay.standin.settings import BadSetting, Settings

CONTROL = "/_sandbox/"
_GRACE_S = 0.05  # at the end: an answer being written may finish, one that waits for its latency is dropped
_LINGER_RESET = struct.pack("ii", 1, 0)  # close() sends RST at once


class Platform:
    """The stand-in. ``paths`` gives some paths a behaviour of their own; all others share ``settings``."""

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        paths: Mapping[str, Settings] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int | None = None,
        seed: int = 0,
        log: Path | None = None,
    ) -> None:
        self.everywhere = Endpoint(settings or Settings())
        self.paths = {path: Endpoint(own) for path, own in (paths or {}).items()}
        self.log = ArrivalLog(log)
        self._dice = random.Random(seed)
        self._host, self._port, self._control_port = host, port, control_port
        self._epoch_s = wall_s() - boottime_s()  # the limits must not see a step of the wall clock
        self._arrived = 0
        self._busy: set[web.RequestHandler] = set()
        self._reopen: asyncio.TimerHandle | None = None
        self._reopening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises ``OSError`` when the address is taken."""
        self._http = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,  # wire bytes are counted; decoding is ours and bounded
            handler_cancellation=True,  # a hang ends when its client goes
        )
        self._control = web.Server(self._handle_control, access_log=None)
        self.listener = ClosableSocket(self._http, host=self._host, port=self._port)
        self.control_listener = None
        if self._control_port is not None:
            try:
                self.control_listener = ClosableSocket(self._control, host=self._host, port=self._control_port)
            except OSError:
                self.listener.close()
                raise
            await self.control_listener.open()
        await self.listener.open()
        self._follow_outage()

    async def close(self) -> None:
        """Stop listening, drop what is open, write the log's rest."""
        if self._reopen is not None:
            self._reopen.cancel()
        self.listener.close()
        if self.control_listener is not None:
            self.control_listener.close()
        for server in (self._http, self._control):
            server.pre_shutdown()  # idle connections go at once
            await server.shutdown(_GRACE_S)
        self.log.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.listener.url

    @property
    def control_url(self) -> str:
        """Where settings and figures are. With a control port they stay reachable while connections are refused."""
        return (self.control_listener or self.listener).url + CONTROL.rstrip("/")

    def endpoint(self, path: str) -> Endpoint:
        """Return what answers ``path``: its own endpoint, one that hands out tokens there, or the shared one."""
        own = self.paths.get(path)
        if own is not None:
            return own
        return next((one for one in self.paths.values() if one.hands_tokens_at(path)), self.everywhere)

    def change(self, words: JsonObject, path: str | None = None) -> Settings:
        """Change some settings of a path, or of all paths without their own. Raises ``BadSetting``."""
        if path is None:
            endpoint = self.everywhere
        elif path in self.paths:
            endpoint = self.paths[path]
        else:
            endpoint = Endpoint(self.everywhere.settings)
        endpoint.apply(endpoint.settings.changed(words))
        if path is not None:
            self.paths[path] = endpoint
        self._follow_outage()
        return endpoint.settings

    def figures_by_path(self) -> dict[str, JsonObject]:
        """Return the figures of each path with a behaviour of its own, and of all others as ``*``."""
        endpoints = {"*": self.everywhere, **self.paths}
        figures = {path: endpoint.figures.as_dict() for path, endpoint in endpoints.items()}
        for path, endpoint in endpoints.items():
            if endpoint.most_weighed:
                figures[path]["most"] = endpoint.most_weighed
            if endpoint.personality is not None:
                figures[path]["personality"] = endpoint.personality.figures()
        return figures

    def stats(self) -> JsonObject:
        """Return the shared figures at the top, and those of paths with their own under ``paths``."""
        figures = self.figures_by_path()
        return figures.pop("*") | {"paths": figures}

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await self._handle_control(request)
        endpoint = self.endpoint(request.path)
        if endpoint.personality is not None and endpoint.hands_tokens_at(request.path):
            body = await _read(request)
            token = endpoint.personality.token(_platform_request(request, body, body, lambda callbacks: 0.0))
            return _response(token)  # neither recorded nor counted under a limit
        at = boottime_s()
        self._arrived += 1
        number = self._arrived
        endpoint.figures.arrive(at)
        arrived = _Arrived(number, at, request, endpoint)
        self._busy.add(request.protocol)
        try:
            reaction, wait_s = endpoint.admit(at + self._epoch_s)
            self._shut_while_used_up(endpoint, at)
            try:
                wire = await _read(request)
            except (asyncio.CancelledError, ConnectionError, web.HTTPException):
                self._record(arrived, CUT, Examined(None, b"", []), wire=b"", delay_s=0.0, limited=wait_s > 0)
                raise
            examined = endpoint.examine(
                wire,
                coding=request.headers.get("Content-Encoding", ""),
                content_type=request.headers.get("Content-Type", ""),
            )
            reaction = reaction or examined.reaction

            def weigh(callbacks: Sequence[bytes]) -> float:
                return endpoint.weigh(boottime_s() + self._epoch_s, callbacks, len(wire))

            if reaction is None and endpoint.personality is None:
                wait_s = weigh(examined.items)
                reaction = endpoint.settings.over if wait_s > 0 else None
            reaction = reaction or endpoint.roll(self._dice)
            answer = endpoint.respond(_platform_request(request, wire, examined.body, weigh), reaction, wait_s)
            delay_s = self._dice.uniform(*endpoint.settings.latency)
            self._record(arrived, reaction, examined, wire=wire, delay_s=delay_s, limited=wait_s > 0, answer=answer)
            if delay_s:
                await asyncio.sleep(delay_s)
            if answer is not None and (reaction is OK or wait_s > 0):
                return self._closing(_response(answer))
            return await self._react(request, reaction, endpoint.settings, wait_s)
        finally:
            self._busy.discard(request.protocol)
            endpoint.figures.leave()

    def _record(
        self,
        arrived: "_Arrived",
        reaction: Reaction,
        examined: Examined,
        *,
        wire: bytes,
        delay_s: float,
        limited: bool,
        answer: PlatformAnswer | None = None,
    ) -> None:
        headers = arrived.request.headers
        read_id = arrived.endpoint.read_id
        items = examined.items if answer is None else answer.callbacks
        is_whole = answer is None or len(answer.taken) == len(answer.callbacks)
        arrival = Arrival(
            n=arrived.n,
            at=arrived.at,
            wall=wall_s(),
            method=arrived.request.method,
            path=arrived.request.path,
            batch=headers.get("Idempotency-Key"),
            attempt=headers.get("Relay-Attempt"),
            count=len(items),
            items=[digest(item) for item in items],
            raw=len(examined.body),
            wire=len(wire),
            encoding=headers.get("Content-Encoding", ""),
            answer=reaction.name if answer is None or reaction is not OK else answer.word,
            applied=reaction.applied if answer is None else bool(answer.taken),
            limited=limited or (answer is not None and answer.limited),
            delay=delay_s,
            ids=[read_id(item) for item in items] if read_id else None,
            taken=None if is_whole or answer is None else [digest(item) for item in answer.taken],
        )
        self.log.add(arrival)
        arrived.endpoint.figures.decide(arrival)

    async def _react(
        self, request: web.BaseRequest, reaction: Reaction, settings: Settings, wait_s: float
    ) -> web.StreamResponse:
        """Do to the request what was decided."""
        match reaction.act:
            case "reset" | "refuse":
                _reset(request)
                return web.Response()  # never written: the connection is gone
            case "hang":
                await asyncio.Event().wait()  # until the client goes: aiohttp then cancels this handler
            case "truncate":
                return await _truncated(request)
        headers = {"Content-Type": "application/json"}
        if reaction.retry_after:
            headers["Retry-After"] = str(math.ceil(wait_s or settings.retry_after_s))
        if reaction.errcode:
            body = ERRCODE_BODY
        elif 200 <= reaction.status < 300:
            body = settings.reply.encode()
        else:
            body = b'{"error":"%d"}' % reaction.status
        return self._closing(web.Response(status=reaction.status, body=body, headers=headers))

    def _closing(self, response: web.Response) -> web.Response:
        if not self.listener.is_open:
            response.force_close()  # no connection may be reused while new ones are refused
        return response

    def _shut_while_used_up(self, endpoint: Endpoint, at: float) -> None:
        """Refuse connections while the limit is used up, if ``over`` is ``refuse``."""
        if endpoint.settings.over.act != "refuse" or endpoint.settings.outage is not None:
            return
        wait_s = endpoint.limits.wait_s(at + self._epoch_s)
        if wait_s > 0:
            self._shut()
            if self._reopen is not None:
                self._reopen.cancel()
            self._reopen = asyncio.get_running_loop().call_later(wait_s, self._open)

    def _follow_outage(self) -> None:
        """Refuse connections while any path has such an outage: all paths share the listener."""
        outages = [endpoint.settings.outage for endpoint in (self.everywhere, *self.paths.values())]
        if any(outage is not None and outage.act == "refuse" for outage in outages):
            self._shut()
        elif self._reopen is None:
            self._open()

    def _shut(self) -> None:
        self.listener.shut()
        for connection in self._http.connections:
            if connection not in self._busy and connection.transport is not None:
                connection.transport.close()  # idle ones go at once, busy ones after their answer

    def _open(self) -> None:
        self._reopen = None
        self._reopening = asyncio.get_running_loop().create_task(self.listener.open())

    async def _handle_control(self, request: web.BaseRequest) -> web.StreamResponse:
        """``GET stats``, ``GET log?since=N``, ``GET settings?path=``, ``POST settings`` (``path`` in the body)."""
        match request.method, request.path.removeprefix(CONTROL):
            case "GET", "stats":
                return _json(self.stats())
            case "GET", "log":
                since = request.query.get("since", "0")
                lines = self.log.since(int(since) if since.isdigit() else 0)
                return web.Response(body=b"".join(line + b"\n" for line in lines), content_type="application/x-ndjson")
            case "GET", "settings":
                return _json(self.endpoint(request.query.get("path", "")).settings)
            case "POST", "settings":
                try:
                    words = msgspec.json.decode(await request.read(), type=JsonObject)
                    return _json(self.change(words, words.pop("path", None)))
                except (msgspec.DecodeError, BadSetting) as error:
                    return _json({"error": str(error)}, status=400)
        return _json({"error": "use GET stats, GET log, GET settings or POST settings"}, status=404)


class _Arrived(NamedTuple):
    """A request whose headers are there."""

    n: int
    at: float
    request: web.BaseRequest
    endpoint: Endpoint


def _platform_request(
    request: web.BaseRequest, wire: bytes, body: bytes, weigh: Callable[[Sequence[bytes]], float]
) -> PlatformRequest:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return PlatformRequest(request.method, request.path, dict(request.query), headers, wire, body, wall_s(), weigh)


def _response(answer: PlatformAnswer) -> web.Response:
    headers = {"Content-Type": "application/json", **answer.headers}
    return web.Response(status=answer.status, body=answer.encoded(), headers=headers)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


async def _read(request: web.BaseRequest) -> bytes:
    chunks = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(max_size=MAX_BODY_BYTES, actual_size=size)
        chunks.append(chunk)
    return b"".join(chunks)


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        transport.abort()


async def _truncated(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = 1000
    response.force_close()
    await response.prepare(request)
    await response.write(b'{"errcode":')
    if request.transport is not None:
        request.transport.close()
    return response
