"""Remembers the heads of requests, so that the next request with the same head need not be parsed and checked again.

A client sends nearly the same head with each post: the same path, Host, token and content type. Only two lines differ,
``Content-Length`` and ``Idempotency-Key``. They are cut out, and what is left is looked up byte for byte. A head gets
in here only after aiohttp has parsed it and all its checks were passed, so nothing is ever parsed here in another way.
The cut lines have a form that leaves nothing open: a name, one number or printable word, the end of the line.

An example: ``POST /v1/platforms/shop-a/callbacks HTTP/1.1``, ``Host: localhost:8787``, ``Content-Length: 40``,
``Idempotency-Key: order-7`` is the same head as with ``Content-Length: 52`` and ``Idempotency-Key: order-8``.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from relay.web.connection.begun import Begun

_MOST_BYTES = 2048  # of a head; a head of a program is a few hundred bytes long
_REMEMBERED = 64  # heads; when the table is full it starts anew
# Not followed by a space or tab: then the next line would be a part of this one (RFC 9112 section 5.2).
_LENGTH = re.compile(rb"\r\n(?i:content-length): ?(0|[1-9][0-9]{0,7})(?=\r\n(?![ \t]))")
_KEY = re.compile(rb"\r\n(?i:idempotency-key): ?([!-~]{1,255})(?=\r\n(?![ \t]))")
_END = b"\r\n\r\n"
_UNSURE = (b"content-length", b"transfer-encoding")


class Cut(NamedTuple):
    """A request that lies before us whole, cut into its parts."""

    rest: bytes  # the head without the two lines
    idempotency_key: str | None
    body: bytes


Repeat = Callable[[bytes, str | None], Begun | None]
"""Begins what a handler does with the body and the idempotency key of a request whose head is known.

Raises ``Refusal``. None: this one needs a task after all; nothing was begun.
"""


class KnownHead(NamedTuple):
    """What is known of the requests with a head."""

    repeat: Repeat
    method: str
    languages: str  # Accept-Language


class KnownHeads:
    """The heads that are known."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}
        self.get = self._known.get

    def add(self, rest: bytes, known: KnownHead) -> None:
        """Remember what is known of a head, without the two lines."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        if rest.count(b"\n") == rest.count(b"\r") == rest.count(b"\r\n"):
            self._known[rest] = known


def body_bytes(head: bytes) -> int | None:
    """Return the length of the body that a head with its last line end says, in a form that leaves nothing open."""
    length = _LENGTH.search(head)
    return None if length is None else int(length[1])


def length_of(data: bytes) -> int:
    """Return how long the request is with which ``data`` begins, if its head is there whole; -1 where that is open."""
    end = data.find(_END)
    if end < 0:
        return -1
    head = data[: end + 2]
    body = body_bytes(head)
    if body is not None:
        return end + 4 + body
    lower = head.lower()
    return -1 if any(name in lower for name in _UNSURE) else end + 4


def cut(data: bytes) -> Cut | None:
    """Cut ``data``, if it is one complete request whose length is given in bytes; None for anything else."""
    end = data.find(_END, 0, _MOST_BYTES)
    if end < 0:
        return None
    head = data[: end + 2]
    length = _LENGTH.search(head)
    if length is None or len(data) - end - 4 != int(length[1]):
        return None
    rest = head[: length.start()] + head[length.end() :]
    key = _KEY.search(rest)
    if key is None:
        return Cut(rest, None, data[end + 4 :])
    return Cut(rest[: key.start()] + rest[key.end() :], key[1].decode("ascii"), data[end + 4 :])
