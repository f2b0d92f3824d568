"""One row of the admin side's table of routes, and how such a row serves a request: who, may they, what do they ask."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Final

from aiohttp.web import BaseRequest

from relay.admin.access import Caller, Permission
from relay.admin.call import MOST_REASON, Call
from relay.admin.filters import InvalidFilter, did_you_mean
from relay.core.errors import StoreFailed, StoreFull
from relay.core.raw import JsonObject
from relay.web.body import Reserve, Unbounded, read_body
from relay.web.dispatch import Handler
from relay.web.openapi import Answered, Described
from relay.web.refusal import Refusal
from relay.web.response import Response

Admit = Callable[[BaseRequest, Permission, str], Awaitable[Caller]]
"""Returns who asks, if the permission is granted, or raises 401 or 403; the text is for the audit record of that."""

REASON: Final[JsonObject] = {
    "reason": {"type": "string", "maxLength": MOST_REASON, "description": "why, for the audit record"}
}
"""The part of a body's JSON Schema that most changes take."""

_MAX_BODY_BYTES = 4 * 2**20  # a configuration of some thousand platforms
_BODY_TIMEOUT_S = 10.0
_MOST_PATH = 120  # characters of a path in an audit record


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """A route: what serves it, what permission it needs and what it is told by."""

    method: str
    path: str
    needs: Permission
    serve: Callable[[Call], Awaitable[Response]]
    summary: str
    query: tuple[str, ...] = ()
    shows: type | None = None  # the view in its answer; None: its answer has none
    starts: type | None = None  # the view in its answer 202, where it only starts something
    body: JsonObject | None = field(default=None)  # JSON Schema properties of the request body

    def described(self) -> Described:
        """Return it as ``/openapi.json`` tells it."""
        answers: dict[int, Answered] = {}
        if self.shows is not None or self.starts is None:
            answers[200] = Answered("Done", () if self.shows is None else (self.shows,))
        if self.starts is not None:
            answers[202] = Answered("Started", (self.starts,))
        schema: JsonObject = {"type": "object", "properties": self.body, "additionalProperties": False}
        return Described(
            listeners=("admin",),
            method=self.method,
            path=self.path,
            summary=self.summary,
            permission=str(self.needs),
            query=self.query,
            body={} if self.body is None else {"application/json": schema},
            answers=answers,
        )

    def handler(self, admit: Admit) -> Handler:
        """Return the router's handler for it. ``admit`` returns who asks and may, or raises 401 or 403."""

        async def handle(request: BaseRequest, values: Mapping[str, str]) -> Response:
            with store_problems():
                who = await admit(request, self.needs, self._about(values))
            query: dict[str, str] = {}
            for key, value in request.query.items():
                if key not in self.query:
                    raise InvalidFilter(key[:80], f"unknown query key '{key[:80]}'{did_you_mean(key, self.query)}")
                if key in query:
                    raise InvalidFilter(key, f"the query key '{key}' stands twice")
                query[key] = value
            body = b""
            if request.method == "POST":
                body = await whole_body(request)
            with store_problems():
                languages = request.headers.get("Accept-Language", "")
                return await self.serve(Call(who=who, params=values, query=query, body=body, languages=languages))

        return handle

    def _about(self, values: Mapping[str, str]) -> str:
        """Return what a refusal is recorded of: the path; of a reveal the callback, as one that is granted is."""
        about = values["id"] if self.needs is Permission.REVEAL else self.path.format_map(values)
        return about[:_MOST_PATH]


@contextmanager
def store_problems() -> Iterator[None]:
    """Answer 503 where the store takes nothing."""
    try:
        yield
    except StoreFull as error:
        raise Refusal("store_full", str(error)) from error
    except StoreFailed as error:
        raise Refusal("store_failed", str(error)) from error


def peer(request: BaseRequest) -> tuple[str, bool]:
    """Return who is at the other end, for the audit record, and whether that is on this machine."""
    transport = request.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    if not isinstance(name, tuple):
        return "unix", True  # a unix socket's file mode is its permission
    address = ip_address(str(name[0]).partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), address.is_loopback


async def whole_body(request: BaseRequest, limit: int = _MAX_BODY_BYTES) -> bytes:
    """Return the body of a request; raises 413 ``too_large`` above ``limit`` bytes."""
    parts = await read_body(request, limit=limit, timeout_s=_BODY_TIMEOUT_S, decode=_no_coding, reserve=Unbounded())
    return b"".join(parts)


async def _no_coding(body: bytes, coding: str, limit: int, reserve: Reserve) -> list[bytes]:
    if coding.strip().lower() == "identity":
        return [body]
    known = {"Accept-Encoding": "identity"}
    raise Refusal("unsupported_encoding", "send the body as it is, without Content-Encoding", headers=known)
