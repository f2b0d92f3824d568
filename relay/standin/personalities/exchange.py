"""What a personality gets and gives: a request as it came, and an answer with the callbacks that were applied."""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import parse_qsl

import msgspec

from relay.wire.payload.extract import readable


@dataclass(frozen=True, slots=True)
class PlatformRequest:
    """One request. ``query`` has decoded values, ``headers`` lower-case names; ``now`` is seconds since the epoch."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    wire: bytes  # the body as it came
    body: bytes  # the body without its content coding
    now: float
    weigh: Callable[[Sequence[bytes]], float]  # counts the callbacks it carries: 0.0, or the wait where above a limit

    def form(self) -> dict[str, str]:
        """Return the fields of a form body; a broken one has none."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self) -> Any:
        """Return the JSON body, None where there is none."""
        try:
            return msgspec.json.decode(readable(self.body))
        except msgspec.DecodeError:
            return None

    def basic(self) -> str | None:
        """Return ``user:password`` of an Authorization header, None without one."""
        scheme, _, code = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            return base64.b64decode(code, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None


class Callback(NamedTuple):
    """One callback as the platform reads it: its bytes, which identify it, and its fields."""

    raw: bytes
    fields: Any

    @classmethod
    def of(cls, raw: bytes) -> "Callback":
        """Read a callback out of its JSON text."""
        return cls(raw, msgspec.json.decode(readable(raw)))


@dataclass(frozen=True, slots=True)
class PlatformAnswer:
    """An answer. ``callbacks`` are those of the request, ``taken`` those of them that the platform applied."""

    status: int
    body: Any
    callbacks: tuple[bytes, ...] = ()
    taken: tuple[bytes, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str = ""  # for the log; empty: the status
    limited: bool = False  # the request came above the limit

    @classmethod
    def above_limit(cls, body: Any, callbacks: tuple[bytes, ...], wait_s: float) -> Self:
        """Return a 429 that says in how many whole seconds to come again."""
        headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
        return cls(429, body, callbacks, headers=headers, limited=True)

    @property
    def word(self) -> str:
        """What the log calls the answer."""
        return self.name or str(self.status)

    def encoded(self) -> bytes:
        """Return the body's bytes: JSON, unless it is text already."""
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


class Personality(Protocol):
    """Answers as one platform does. It decides from the request and what it remembers, and from nothing else."""

    @property
    def token_path(self) -> str | None:
        """The path where it hands out tokens; None if it has none."""
        ...

    @property
    def account(self) -> str:
        """The credentials that a client needs, in the configuration's words."""
        ...

    def decide(self, request: PlatformRequest) -> PlatformAnswer:
        """Answer a request for callbacks."""
        ...

    def token(self, request: PlatformRequest) -> PlatformAnswer:
        """Answer a request for a token."""
        ...

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> PlatformAnswer:
        """Answer a request above the limit; the limit has room again in ``wait_s`` seconds."""
        ...

    def figures(self) -> dict[str, int]:
        """Return its counts: tokens handed out, bad tokens and signatures, duplicates, requests above the limit."""
        ...
