"""A client for programs beside the relay: post callbacks, and take slots of the limits it keeps to.

It needs the standard library only, and no other module of the relay: it may be copied out. ``RelayClient`` blocks,
``AsyncRelayClient`` does the same for asyncio::

    relay = RelayClient("http://127.0.0.1:8787")
    relay.post("shop-a", {"order_id": "991", "status": "shipped"}, key="991")
    with relay.slot("shop-a", wait_s=30):      # take, then release when the answer was seen
        answer = urlopen("https://api.shop-a.example/orders")

A post is repeated under its ``Idempotency-Key`` while there is no answer or a 5xx, which never queues it twice.
"""

import asyncio
import http.client
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

_BEYOND_WAIT_S = 30.0  # an answer may come so long after the wait that was asked for
_MOST_PAUSE_S = 30.0  # between two tries of a post


class SlotsInHand(NamedTuple):
    """Slots that were taken of ``quota``; ``send_by`` is when the last request must have been sent (ISO 8601, UTC)."""

    quota: str
    ids: list[str]
    send_by: str


class RequestFailed(Exception):
    """The relay refused; ``code`` is stable (``no_slot``, ``unknown_platform``, ...), ``status`` 0: no answer came."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: float | None) -> None:
        super().__init__(f"{code}: {detail}" if code else detail)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class NoSlotFree(RequestFailed):
    """No slot came free in the time; ``retry_after_s`` says when it may be worth to ask again."""


_Said = TypeVar("_Said")


class _Call(NamedTuple, Generic[_Said]):
    path: str
    body: bytes
    headers: dict[str, str]
    within_s: float
    tries: int
    read: Callable[[Mapping[str, Any]], _Said]  # what the caller gets of a good answer

    def again_s(self, error: RequestFailed, tried: int) -> float:
        """Return how long to wait before it is made again; raises the error where that does not help."""
        if tried >= self.tries or 0 < error.status < 500:
            raise error
        return min(error.retry_after_s or 0.2 * 2.0**tried, _MOST_PAUSE_S)


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Protocol:
    """What is asked and how its answer is read; how both travel is the subclass's."""

    def __init__(self, url: str = "http://127.0.0.1:8787", *, token: str | None = None, tries: int = 5) -> None:
        """``url`` is the ingest listener, ``token`` that of ``ingest.token``; a post is tried so many times."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a relay: write http://127.0.0.1:8787")
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        self._token = token
        self._tries = tries

    def _post(
        self,
        platform: str,
        payload: Any,
        *,
        key: str | None,
        event: str | None,
        idempotency_key: str | None,
        headers: Mapping[str, str] | None,
    ) -> _Call[str]:
        body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
        given = {"Idempotency-Key": idempotency_key or str(uuid.uuid4()), "Relay-Key": key, "Relay-Event": event}
        sent = {name: value for name, value in given.items() if value is not None}
        if not isinstance(payload, bytes):
            sent["Content-Type"] = "application/json"
        path = f"/v1/platforms/{quote(platform, safe='')}/callbacks"
        return self._call(path, body, {**sent, **(headers or {})}, lambda said: str(said["id"]), tries=self._tries)

    def _take(self, quota: str, count: int, wait_s: float, group: str) -> _Call[SlotsInHand]:
        def read(said: Mapping[str, Any]) -> SlotsInHand:
            return SlotsInHand(quota, list(said["slots"]), str(said["send_by"]))

        return self._quota(quota, "take", read, wait_s=wait_s, n=count, wait=_milliseconds(wait_s), group=group or None)

    def _release(self, slots: SlotsInHand, unused: bool) -> _Call[None]:
        return self._quota(slots.quota, "release", lambda _: None, slots=slots.ids, unused=unused)

    def _report(self, quota: str, count: int, refused: bool, wait_s: float | None, group: str) -> _Call[None]:
        wait = None if wait_s is None else _milliseconds(wait_s)
        return self._quota(quota, "report", lambda _: None, n=count, refused=refused, wait=wait, group=group or None)

    def _quota(
        self, quota: str, verb: str, read: Callable[[Mapping[str, Any]], _Said], *, wait_s: float = 0.0, **order: Any
    ) -> _Call[_Said]:
        body = json.dumps({name: value for name, value in order.items() if value is not None}).encode()
        headers = {"Content-Type": "application/json"}
        return self._call(f"/v1/quotas/{quote(quota, safe='')}/{verb}", body, headers, read, wait_s=wait_s)

    def _call(
        self,
        path: str,
        body: bytes,
        headers: dict[str, str],
        read: Callable[[Mapping[str, Any]], _Said],
        *,
        wait_s: float = 0.0,
        tries: int = 1,
    ) -> _Call[_Said]:
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        sent = {name: _header(name, text) for name, text in headers.items()}
        return _Call(path, body, sent, wait_s + _BEYOND_WAIT_S, tries, read)


def _header(name: str, text: str) -> str:
    """Return a header's text as ``http.client`` takes it: the relay reads headers as UTF-8."""
    if not text.isprintable():
        raise ValueError(f"{name} holds control characters, which no header can carry")
    return text.encode().decode("latin-1")


def _read(answer: _Answer) -> dict[str, Any]:
    """Return what an answer says. Raises ``RequestFailed`` for a problem."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        said = None
    if 200 <= answer.status < 300 and isinstance(said, dict):
        return said
    problem = said if isinstance(said, dict) else {}
    after = answer.headers.get("retry-after", "")
    code = str(problem.get("code", ""))
    kind = NoSlotFree if code == "no_slot" else RequestFailed
    detail = str(problem.get("detail") or f"answered {answer.status}; is it a relay?")
    raise kind(answer.status, code, detail, float(after) if after.isdigit() else None)


def _milliseconds(seconds: float) -> str:
    return f"{int(seconds * 1000)}ms"


class RelayClient(_Protocol):
    """The blocking client; one connection for each request, so that threads may share it."""

    def post(
        self,
        platform: str,
        payload: Any,
        *,
        key: str | None = None,
        event: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Post one callback and return its id once it is on disk. ``payload``: bytes as they are, or made JSON."""
        call = self._post(platform, payload, key=key, event=event, idempotency_key=idempotency_key, headers=headers)
        return self._answered(call)

    def take(self, quota: str, count: int = 1, *, wait_s: float = 0.0, group: str = "") -> SlotsInHand:
        """Take slots, waiting up to ``wait_s`` (60 s at most) for them. Raises ``NoSlotFree``."""
        return self._answered(self._take(quota, count, wait_s, group))

    def release(self, slots: SlotsInHand, *, unused: bool = False) -> None:
        """Say that the answers were seen; ``unused``: nothing was sent."""
        self._answered(self._release(slots, unused))

    def report(
        self, quota: str, count: int = 1, *, refused: bool = False, wait_s: float | None = None, group: str = ""
    ) -> None:
        """Count requests that were sent without slots; ``refused``: the platform stops, for ``wait_s`` if given."""
        self._answered(self._report(quota, count, refused, wait_s, group))

    @contextmanager
    def slot(self, quota: str, *, wait_s: float = 60.0, group: str = "") -> Iterator[SlotsInHand]:
        """Take a slot for one request and release it at the end, also when the request failed."""
        taken = self.take(quota, wait_s=wait_s, group=group)
        try:
            yield taken
        finally:
            self.release(taken)

    def _answered(self, call: _Call[_Said]) -> _Said:
        tried = 0
        while True:
            try:
                return call.read(_read(self._send(call)))
            except RequestFailed as error:
                tried += 1
                time.sleep(call.again_s(error, tried))

    def _send(self, call: _Call[Any]) -> _Answer:
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=call.within_s)
        try:
            connection.request("POST", call.path, call.body, call.headers)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return _Answer(response.status, named, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise _no_answer(self._host, self._port, error) from error
        finally:
            connection.close()


class AsyncRelayClient(_Protocol):
    """The same for asyncio."""

    async def post(
        self,
        platform: str,
        payload: Any,
        *,
        key: str | None = None,
        event: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Post one callback and return its id once it is on disk."""
        call = self._post(platform, payload, key=key, event=event, idempotency_key=idempotency_key, headers=headers)
        return await self._answered(call)

    async def take(self, quota: str, count: int = 1, *, wait_s: float = 0.0, group: str = "") -> SlotsInHand:
        """Take slots, waiting up to ``wait_s`` (60 s at most) for them. Raises ``NoSlotFree``."""
        return await self._answered(self._take(quota, count, wait_s, group))

    async def release(self, slots: SlotsInHand, *, unused: bool = False) -> None:
        """Say that the answers were seen; ``unused``: nothing was sent."""
        await self._answered(self._release(slots, unused))

    async def report(
        self, quota: str, count: int = 1, *, refused: bool = False, wait_s: float | None = None, group: str = ""
    ) -> None:
        """Count requests that were sent without slots; ``refused``: the platform stops, for ``wait_s`` if given."""
        await self._answered(self._report(quota, count, refused, wait_s, group))

    @asynccontextmanager
    async def slot(self, quota: str, *, wait_s: float = 60.0, group: str = "") -> AsyncIterator[SlotsInHand]:
        """Take a slot for one request and release it at the end, also when the request failed."""
        taken = await self.take(quota, wait_s=wait_s, group=group)
        try:
            yield taken
        finally:
            await self.release(taken)

    async def _answered(self, call: _Call[_Said]) -> _Said:
        tried = 0
        while True:
            try:
                return call.read(_read(await self._send(call)))
            except RequestFailed as error:
                tried += 1
                await asyncio.sleep(call.again_s(error, tried))

    async def _send(self, call: _Call[Any]) -> _Answer:
        head = {
            **call.headers,
            "Host": f"{self._host}:{self._port}",
            "Content-Length": str(len(call.body)),
            "Connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        try:
            async with asyncio.timeout(call.within_s):
                tls = ssl.create_default_context() if self._tls else None
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=tls)
                try:
                    writer.write(f"POST {call.path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + call.body)
                    await writer.drain()
                    raw = await reader.read()
                finally:
                    writer.close()
            return _parsed(raw)
        except (OSError, ValueError) as error:
            raise _no_answer(self._host, self._port, error) from error


def _parsed(raw: bytes) -> _Answer:
    """Return a whole answer, which ends with its connection. Raises ``ValueError`` where it is cut."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    named = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if len(body) != int(named.get("content-length", -1)):
        raise ValueError("the answer was cut")
    return _Answer(int(first.split(" ")[1]), named, body)


def _no_answer(host: str, port: int, error: Exception) -> RequestFailed:
    return RequestFailed(0, "", f"no answer from {host}:{port}: {str(error) or type(error).__name__}", None)
