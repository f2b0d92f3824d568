"""Brings a request to its handler: checks it, finds its route, and answers every failure with a problem.

``Router`` is the handler of aiohttp's low-level ``web.Server``, which serves 1.4 times the requests of
``web.Application`` with its middlewares and resources (measured).
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import HttpVersion11
from aiohttp.web import BaseRequest, StreamResponse

from relay.web.connection.begun import Begun
from relay.web.connection.remembered import Cut, KnownHead, KnownHeads, Repeat
from relay.web.message import check_message, origin_form
from relay.web.refusal import Refusal, problem
from relay.web.response import Response

Handler = Callable[[BaseRequest, Mapping[str, str]], Awaitable[Response | StreamResponse]]
"""A request and the values of the pattern's ``{names}`` to a response; raises ``Refusal``."""

_REMEMBERED = 256  # paths. Each look-up by id adds one; when the table is full it starts anew


Know = Callable[[BaseRequest, Mapping[str, str]], Repeat | None]
"""Checks the head of a request, and returns what serves all requests with that head without a task; None: nothing does.

Raises ``Refusal`` as the handler does.
"""


class _Served(NamedTuple):
    """How a method of a route is served."""

    handler: Handler
    know: Know | None = None


_UNKNOWN: tuple[_Served | None, Mapping[str, str]] = (None, {})


class _Route(NamedTuple):
    segments: tuple[str, ...]
    names: tuple[tuple[int, str], ...]
    methods: dict[str, _Served]


class Routes:
    """A table of patterns such as ``/v1/callbacks/{id}``; earlier ones win."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[_Route]] = {}
        self._below: list[tuple[str, Handler]] = []
        # Almost all requests of a relay are posts to a handful of platforms' paths.
        self._found: dict[tuple[str, str], tuple[_Served, Mapping[str, str]]] = {}

    def add(self, method: str, pattern: str, handler: Handler, know: Know | None = None) -> None:
        """Serve ``pattern`` with ``handler``; GET also answers HEAD. ``know`` is for heads that come again."""
        segments = tuple(pattern.split("/"))
        routes = self._by_length.setdefault(len(segments), [])
        route = next((known for known in routes if known.segments == segments), None)
        if route is None:
            names = tuple((place, part[1:-1]) for place, part in enumerate(segments) if part.startswith("{"))
            route = _Route(segments, names, {})
            routes.append(route)
        route.methods[method] = _Served(handler, know)
        if method == "GET":
            route.methods.setdefault("HEAD", _Served(handler))

    def add_below(self, prefix: str, handler: Handler) -> None:
        """Serve GET of every path that begins with ``prefix`` and that no pattern has."""
        self._below.append((prefix, handler))

    def know(self, request: BaseRequest) -> Repeat | None:
        """Return what serves all requests with the head of this one, which was found before. Raises ``Refusal``."""
        served, values = self._found.get((request.method, request.raw_path), _UNKNOWN)
        return None if served is None or served.know is None else served.know(request, values)

    def find(self, method: str, raw_path: str) -> tuple[Handler, Mapping[str, str]]:
        """Return the handler and the pattern's values, percent-decoded. Raises ``Refusal`` (404, 405)."""
        found = self._found.get((method, raw_path))
        if found is None:
            found = self._search(method, raw_path)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[method, raw_path] = found
        served, values = found
        return served.handler, values

    def _search(self, method: str, raw_path: str) -> tuple[_Served, Mapping[str, str]]:
        parts = raw_path.partition("?")[0].split("/")
        allowed: dict[str, _Served] = {}
        for segments, names, methods in self._by_length.get(len(parts), ()):
            if all(want == part or want.startswith("{") for want, part in zip(segments, parts, strict=True)):
                served = methods.get(method)
                if served is not None:
                    return served, {name: unquote(parts[place]) for place, name in names}
                allowed = {**methods, **allowed}
        for prefix, handler in self._below:
            if not allowed and raw_path.startswith(prefix):
                allowed = {"GET": _Served(handler), "HEAD": _Served(handler)}
                if method in allowed:
                    return allowed[method], {}
        if raw_path == "*":  # RFC 9110 section 9.3.7: about the server as a whole
            allowed = {
                name: each
                for routes in self._by_length.values()
                for _, _, known in routes
                for name, each in known.items()
            }
        if allowed:
            methods_allowed = ", ".join(sorted({*allowed, "OPTIONS"}))
            if method == "OPTIONS":
                return _Served(partial(_options, methods_allowed)), {}
            raise Refusal("method_not_allowed", f"use {methods_allowed}", headers={"Allow": methods_allowed})
        raise Refusal("not_found", "this path is not served by this listener; GET /openapi.json lists those that are")


async def _options(allowed: str, _request: BaseRequest, _values: Mapping[str, str]) -> Response:
    """Answer OPTIONS: which methods work here (RFC 9110 section 9.3.7)."""
    return Response(204, headers={"Allow": allowed})


class Router:
    """Serves ``routes`` behind a chain of checks."""

    def __init__(
        self,
        *,
        routes: Routes,
        checks: tuple[Callable[[BaseRequest], None], ...],
        refused: Callable[[str], None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        """Build it. ``refused`` is called with the code of each problem, ``failed`` with each unexpected exception."""
        self.replace(routes=routes, checks=checks)
        self._refused = refused
        self._failed = failed

    async def __call__(self, request: BaseRequest) -> Response | StreamResponse:
        """Answer one request. Raises only when it is cancelled."""
        try:
            self._check(request)
            handler, values = self._routes.find(request.method, origin_form(request.raw_path))
            return await handler(request, values)
        except Exception as error:  # noqa: BLE001 -- a handler's bug must cost one request, not the listener
            return self._ended(request.method, request.headers.get("Accept-Language", ""), error)

    def _check(self, request: BaseRequest) -> None:
        check_message(request)
        for check in self._checks:
            check(request)

    def replace(self, *, routes: Routes, checks: tuple[Callable[[BaseRequest], None], ...]) -> None:
        """Serve these from now on, with nothing of what was known."""
        self._routes = routes
        self._checks = checks
        self._heads = KnownHeads()

    def serves(self, method: str, target: str) -> bool:
        """Return whether a route takes such requests."""
        try:
            self._routes.find(method, target)
        except Refusal:
            return False
        return True

    def recall(self, rest: bytes) -> KnownHead | None:
        """Return what is known of a head."""
        return self._heads.get(rest)

    def learn(self, rest: bytes, request: BaseRequest) -> None:
        """Remember the head of a request, if all requests with it can be served without a task."""
        if not request.keep_alive or request.version != HttpVersion11 or "Expect" in request.headers:
            return
        try:
            self._check(request)
            repeat = self._routes.know(request)
        except Refusal:
            return
        if repeat is not None:
            self._heads.add(rest, KnownHead(repeat, request.method, request.headers.get("Accept-Language", "")))

    def begin(self, known: KnownHead, part: Cut) -> Begun | Response | None:
        """Begin to answer a request with a known head. A response is the whole answer; None: it needs a task."""
        try:
            begun = known.repeat(part.body, part.idempotency_key)
        except Exception as error:  # noqa: BLE001 -- as above
            return self._ended(known.method, known.languages, error)
        return None if begun is None else Begun(begun.done, partial(self._answer, known, begun))

    def _answer(self, known: KnownHead, begun: Begun) -> Response | Awaitable[Response]:
        try:
            answer = begun.answer()
        except Exception as error:  # noqa: BLE001 -- as above
            return self._ended(known.method, known.languages, error)
        return answer if isinstance(answer, Response) else self._later(known, answer)

    async def _later(self, known: KnownHead, answer: Awaitable[Response]) -> Response:
        try:
            return await answer
        except Exception as error:  # noqa: BLE001 -- as above
            return self._ended(known.method, known.languages, error)

    def _ended(self, method: str, languages: str, error: Exception) -> Response:
        """Return the answer to a request whose handler raised."""
        if isinstance(error, Refusal):
            self._refused(error.code)
            return error.answer(languages)
        if isinstance(error, ConnectionError):
            # The client went away in the middle of its request: nobody is there to answer.
            return Response(400, close=True)
        self._failed(method, error)
        return problem("internal", "this is a bug; the log of the relay says where", close=True)
