"""The ingest listener over real sockets and a memory store: every row of SPEC 3, and what strangers send."""

import asyncio
import gzip
import io
import json
import random
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.web import RequestHandler
from backports import zstd
from relay.core.clock import wall_s
from relay.core.errors import RelayError, StoreFailed, StoreFull
from relay.core.model import Accepted, Cancelled, ClaimRequest, Filter, Lane, NewCallback
from relay.delivery.asking.elsewhere import Elsewhere
from relay.ingest import post_options
from relay.ingest.described import ROUTES
from relay.ingest.fan_out import Routing
from relay.ingest.intake import IngestSettings, Intake
from relay.ingest.lending.desk import LimitDirectory, SlotDesk
from relay.ingest.lending.routes import QuotaRoutes
from relay.ingest.posts import Directory
from relay.ingest.rows import PlatformIntake
from relay.ingest.server import IngestServer
from relay.store.base import OWN_ROWS_S, SHARED_ROWS_S
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.callback_view import CallbackView
from relay.web.health import PROBES
from relay.web.openapi import document
from relay.wire.payload.extract import KeyPath
from tests.faults.daemon import Slowness

CANARY = "13812345678"
POST = "/v1/platforms/shop-a/callbacks"
NDJSON = {"Content-Type": "application/x-ndjson"}


class StillClock:
    """The relay clock, standing still."""

    def now(self) -> float:
        return 1_000_000.0


class Inbox:
    """Passes rows on to a store, keeps what it saw, and fails on demand."""

    slowest_rows_s: int = OWN_ROWS_S

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.rows: list[NewCallback] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None  # while set, commits hang until it is

    async def accept(self, rows: Any) -> Accepted:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        accepted = await self.store.accept(rows)
        self.rows += [row for place, row in enumerate(rows) if place not in accepted.duplicates]
        return accepted

    async def cancel(self, callback_id: str) -> Cancelled:
        if self.error is not None:
            raise self.error
        return await self.store.cancel(callback_id)

    async def cancel_key(self, platform: str, key: str) -> Cancelled:
        return await self.store.cancel_key(platform, key)


class Relay:
    """One running ingest listener and what is needed to talk to it and look behind it."""

    def __init__(self, settings: IngestSettings, platforms: dict[str, PlatformIntake], **bounds: int) -> None:
        self.store = MemoryStore(clock=StillClock())
        self.inbox = Inbox(self.store)
        self.log = io.BytesIO()
        self.metrics = Metrics()
        self.expiring: list[float] = []
        self.settings = settings
        self.intake = Intake(inbox=self.inbox, **bounds)
        self.server = IngestServer(
            expiring=self.expiring.append,
            settings=settings,
            directory=Directory(Routing(), platforms),
            intake=self.intake,
            ping=self.store.ping,
            describe=self.store.callback,
            openapi=lambda: b'{"openapi": "3.1.0"}',
            events=Events(log=make_logger(file=self.log, level="debug"), metrics=self.metrics),
            quotas=QuotaRoutes(self._desk(), decode=self.intake.decoder, clock=self.store.clock, wall=wall_s),
        )
        self.session: aiohttp.ClientSession

    def _desk(self) -> SlotDesk:
        elsewhere = Elsewhere(lambda _name: None, outbox=self.store, clock=self.store.clock, rng=random.Random(0))
        nothing = LimitDirectory({}, frozenset())
        return SlotDesk(self.store.lending, elsewhere, clock=self.store.clock, directory=lambda: nothing)

    async def post(self, body: Any = b"{}", path: str = POST, **headers: str) -> tuple[int, dict, Any]:
        """Post and return status, JSON body and headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = io.BytesIO(body) if isinstance(body, bytes) else body  # aiohttp warns of large bytes
        async with self.session.post(path, data=body, headers=named) as response:
            raw = await response.read()
            return response.status, json.loads(raw), response.headers

    async def raw(self, data: bytes) -> bytes:
        """Send bytes over a connection of their own and return all that comes back until it closes."""
        reader, writer = await asyncio.open_connection(*self.endpoint)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        return answer

    @property
    def endpoint(self) -> tuple[str, int]:
        host, _, port = self.server.address.rpartition(":")
        return host, int(port)

    @property
    def told(self) -> str:
        """Everything that went to the log and to the metrics."""
        return self.log.getvalue().decode() + self.metrics.render().decode()


PLATFORMS = {
    "shop-a": PlatformIntake(
        name="shop-a", needs_json=True, expires_s=86400.0, max_bytes=2 * 1024 * 1024, key=KeyPath("order_id")
    ),
    "raw": PlatformIntake(name="raw", needs_json=False, expires_s=60.0, max_bytes=2 * 1024 * 1024),
    "small": PlatformIntake(
        name="small", needs_json=True, expires_s=60.0, max_bytes=100, frame_bytes=1, item_bytes=1, lane=Lane.LOW
    ),
    "grouped": PlatformIntake(
        name="grouped",
        needs_json=True,
        expires_s=60.0,
        max_bytes=2 * 1024 * 1024,
        group=KeyPath("shop_id"),
        group_path="shop_id",
        key=KeyPath("order_id"),
    ),
}


@asynccontextmanager
async def running(
    listen: str = "127.0.0.1:0", bounds: Mapping[str, int] | None = None, **settings: Any
) -> AsyncIterator[Relay]:
    """Serve until the block ends."""
    relay = Relay(IngestSettings(listen=listen, **settings), PLATFORMS, **(bounds or {}))
    await relay.server.start()
    if listen.startswith("unix:"):
        connector, base = aiohttp.UnixConnector(listen.removeprefix("unix:")), "http://localhost"
    else:
        connector, base = aiohttp.TCPConnector(), f"http://{relay.server.address}"
    async with aiohttp.ClientSession(base, connector=connector) as relay.session:
        try:
            yield relay
        finally:
            await relay.server.close(1.0)
            relay.intake.close()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A listener with the usual settings."""
    async with running() as relay:
        yield relay


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, a few seconds at most."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


# --- one callback


async def test_one_callback_is_answered_with_its_id_and_place(relay: Relay):
    """A post is 202 with id, platform, state and Location, and the store holds the very bytes."""
    body = b'{ "order_id" : 991, "text": "\xe4\xb8\xad" }'
    status, told, headers = await relay.post(
        body, Relay_Event="order.paid", Relay_Priority="high", Relay_Expires="30m", Content_Type="application/json"
    )
    assert relay.expiring == []
    assert (await relay.post(body, Relay_Expires="10s"))[0] == 202
    assert relay.expiring == [10.0]  # sooner than expiry looks by itself
    assert status == 202
    assert told == {"id": told["id"], "platform": "shop-a", "state": "pending"}
    assert headers["Location"] == f"/v1/callbacks/{told['id']}"
    assert relay.inbox.rows[:1] == [
        NewCallback("shop-a", body, "991", "order.paid", Lane.HIGH, 1800.0, None, "application/json", None, "")
    ]
    async with relay.session.get(headers["Location"]) as response:
        shown = await response.json()
    assert shown["state"] == "pending"
    assert "payload" not in shown


async def test_headers_win_and_defaults_fill(relay: Relay):
    """Relay-Key wins over the payload; lane and expiry come from the platform; the trace context is kept."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await relay.post(b'{"order_id": "1"}', Relay_Key="k", traceparent=trace)
    await relay.post(b"{}", path="/v1/platforms/small/callbacks", traceparent="broken")
    await relay.post(b'{"shop_id": 7}', path="/v1/platforms/grouped/callbacks")
    first, second, third = relay.inbox.rows
    assert (first.key, first.traceparent) == ("k", trace)
    assert (second.lane, second.expires_s, second.traceparent, second.key) == (Lane.LOW, 60.0, None, None)
    assert third.group == "7"


async def test_a_reference_is_kept_with_each_callback_of_a_post(relay: Relay):
    """One, lines, enveloped lines: up to 200 bytes of any characters; it is shown with the callback."""
    word = "\N{CJK UNIFIED IDEOGRAPH-5355}" * 66 + "99"
    _, answer, _ = await relay.post(b'{"order_id": "1"}', Relay_Reference=word)
    await relay.post(b"{}\n{}", Relay_Reference="two", **NDJSON)
    await relay.post(b'{"payload": {}}', Relay_Reference="three", Relay_Envelope="1", **NDJSON)
    await relay.post(b"{}")
    assert [row.reference for row in relay.inbox.rows] == [word, "two", "two", "three", None]
    shown = await relay.store.callback(answer["id"])
    assert shown is not None
    assert shown.reference == word


async def test_what_must_not_go_yet(relay: Relay, monkeypatch: pytest.MonkeyPatch):
    """A duration, a time with its zone, or one that is past; the default life of the platform holds from then on."""
    monkeypatch.setattr(post_options, "wall_s", lambda: 1_764_460_800.0)  # 2025-11-30T00:00:00Z
    for given in ("30m", "2025-11-30T08:00:00+07:30", "2025-11-29T08:00:00Z"):
        await relay.post(b'{"order_id": "1"}', Relay_Not_Before=given)
    await relay.post(b"{}\n{}", Relay_Not_Before="90s", **NDJSON)
    await relay.post(b'{"payload": {}}', Relay_Not_Before="90s", Relay_Envelope="1", **NDJSON)
    assert [row.delay_s for row in relay.inbox.rows] == [1800.0, 1800.0, 0.0, 90.0, 90.0, 90.0]
    shown = await relay.store.callback((await relay.post(Relay_Not_Before="1h"))[1]["id"])
    assert shown is not None
    assert shown.due_at == StillClock().now() + 3600


async def test_callbacks_are_taken_back(relay: Relay):
    """One by its id, a key at once; what has ended, is on its way or never was is refused and nothing is done."""
    ids = [(await relay.post(b'{"order_id": "%d"}' % (n // 3)))[1]["id"] for n in range(6)]

    async def delete(path: str) -> tuple[int, dict]:
        async with relay.session.delete(path) as response:
            return response.status, json.loads(await response.read())

    assert await delete(f"/v1/callbacks/{ids[0]}") == (
        200,
        {"id": ids[0], "state": "superseded", "reason": "cancelled"},
    )
    assert [(status, told["code"]) for status, told in [await delete(f"/v1/callbacks/{ids[0]}")]] == [(409, "final")]
    assert await delete(f"{POST}?key=0") == (200, {"cancelled": 2, "ids": ids[1:3]})
    assert await delete(f"{POST}?key=0") == (200, {"cancelled": 0, "ids": []})
    await relay.store.claim(ClaimRequest("shop-a", "", 10, 1 << 20, 2, 1, 0.0, 0))
    for path, status, code in (
        (f"/v1/callbacks/{ids[3]}", 409, "in_flight"),
        (f"{POST}?key=1", 409, "in_flight"),
        ("/v1/callbacks/nonsense", 404, "unknown_callback"),
        ("/v1/platforms/shop-b/callbacks?key=1", 404, "unknown_platform"),
        (POST, 400, "invalid_request"),
        (f"{POST}?key=1&key=2", 400, "invalid_request"),
        (f"{POST}?key=1&all=1", 400, "invalid_request"),
        (f"{POST}?key=", 400, "invalid_header"),
    ):
        answered, told = await delete(path)
        assert (answered, told["code"]) == (status, code), path
    relay.inbox.error = StoreFailed("no disk")
    assert (await delete(f"/v1/callbacks/{ids[4]}"))[1]["code"] == "store_failed"
    found = [await relay.store.callback(each) for each in ids]
    assert [each.state for each in found if each is not None] == ["superseded"] * 3 + ["pending"] * 3


async def test_a_payload_without_its_group_is_a_dead_letter(relay: Relay):
    """It is accepted like any other, and dead with the reason at once; the others of its request go."""
    path = "/v1/platforms/grouped/callbacks"
    status, answer, _ = await relay.post(b'{"order_id": 1}', path=path, Idempotency_Key="a")
    assert (status, answer["state"]) == (202, "dead")
    found = await relay.store.callback(answer["id"])
    assert found is not None
    assert (found.state, found.reason) == ("dead", "no group: shop_id is missing in the payload")
    long = b'{"shop_id": "%b"}' % (b"1" * 256)
    lines = b"\n".join([b'{"shop_id": 7}', b'{"shop_id": null}', b'{"shop_id": ""}', long, b'{"shop_id": [1]}'])
    status, answer, _ = await relay.post(lines, path=path, **NDJSON)
    assert (status, answer["accepted"]) == (202, 5)
    shown = [await relay.store.callback(callback_id) for callback_id in answer["ids"]]
    assert [one.state for one in shown if one] == ["pending", "dead", "dead", "dead", "pending"]
    assert [one.group for one in shown if one] == ["7", "", "", "", "[1]"]
    envelope = b'{"payload": {"order_id": 1}, "idempotency_key": "b"}'
    status, answer, _ = await relay.post(envelope, path=path, Relay_Envelope="1", **NDJSON)
    assert (status, answer["accepted"]) == (202, 1)
    assert (await relay.store.totals())["grouped"].dead == 5
    assert 'relay_dead_letters_total{platform="grouped",reason="no_group"} 5' in relay.told
    status, answer, _ = await relay.post(b'{"order_id": 1}', path=path, Idempotency_Key="a")
    assert (await relay.store.totals())["grouped"].accepted == 7
    status, answer, _ = await relay.post(b"no json", path=path)
    assert (status, answer["code"]) == (400, "invalid_json")


async def test_any_bytes_where_no_json_is_needed(relay: Relay):
    """A platform whose envelope needs no JSON takes any body, even none."""
    for body in (b"\xff\xfe not json", b""):
        assert (await relay.post(body, path="/v1/platforms/raw/callbacks"))[0] == 202
    assert [row.payload for row in relay.inbox.rows] == [b"\xff\xfe not json", b""]


@pytest.mark.parametrize("body", [b"no json", b"{} {}", b'{"a": 1', b"", b'"\xff"'])
async def test_json_is_asked_for_where_it_is_needed(relay: Relay, body: bytes):
    """A platform whose envelope splices payloads into JSON takes nothing else, although no key is read from it."""
    path = "/v1/platforms/small/callbacks"
    for headers in ({}, {"Relay_Key": "k"}):
        status, answer, _ = await relay.post(body, path=path, **headers)
        assert (status, answer["code"]) == (400, "invalid_json")
        status, answer, _ = await relay.post(b"{}\n" + (body or b'"\xff"'), path=path, **NDJSON, **headers)
        assert (status, answer["code"], answer["line"]) == (400, "invalid_json", 2)
    assert relay.inbox.rows == []


async def test_compressed_and_chunked_bodies(relay: Relay):
    """gzip and zstd bodies are decoded; a chunked body is put together."""
    body = b'{"order_id":"1","pad":"' + b"x" * 100_000 + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 9999):
            yield body[start : start + 9999]

    assert (await relay.post(gzip.compress(body), Content_Encoding="gzip"))[0] == 202
    assert (await relay.post(zstd.compress(body), Content_Encoding="zstd"))[0] == 202
    assert (await relay.post(pieces()))[0] == 202
    assert [row.payload for row in relay.inbox.rows] == [body] * 3


@pytest.mark.parametrize("state", ["pending", "delivered", "dead", "expired", "superseded"])
async def test_a_repeat_tells_how_the_callback_stands(relay: Relay, monkeypatch: pytest.MonkeyPatch, state: str):
    """It may have come to its end before the client asked again; a first post is always pending."""

    async def describe(callback_id: str) -> CallbackView:
        found = await relay.store.callback(callback_id)
        assert found is not None
        found.state = state
        return found

    monkeypatch.setattr(relay.server._handlers, "_describe", describe)
    first = (await relay.post(b"{}", Idempotency_Key="k"))[1]
    status, again, headers = await relay.post(b"{}", Idempotency_Key="k")
    assert first["state"] == "pending"
    assert (status, again, headers["Idempotent-Replayed"]) == (202, {**first, "state": state}, "true")


async def test_an_unknown_platform_is_named_with_the_nearest(relay: Relay):
    """The typo is seen in the answer; a long or odd name is cut and written safely."""
    for name, told in (
        ("shop-aa", "no platform 'shop-aa' is configured; did you mean 'shop-a'?"),
        ("nothing-like-it-at-all", "known are "),
        ("x" * 500, "xxx..."),
        ("a%0a%1b", r"'a\n\x1b'"),
    ):
        status, problem, _ = await relay.post(b"{}", path=f"/v1/platforms/{name}/callbacks")
        assert (status, problem["code"]) == (404, "unknown_platform")
        assert told in problem["detail"]


@pytest.mark.parametrize("given", ["s", "secre", "secrets", "SECRET", "secret secret"])
async def test_a_part_of_the_token_is_no_token(given: str):
    """Neither its start nor more than it."""
    async with running(token="secret") as relay:
        status, problem, _ = await relay.post(b"{}", Authorization=f"Bearer {given}")
        assert (status, problem["code"]) == (401, "unauthorized")
        assert (await relay.post(b"{}", Authorization="Bearer secret"))[0] == 202


async def test_a_repeat_is_answered_with_the_first_id(relay: Relay):
    """The same Idempotency-Key and body queue nothing twice; another body is 422."""
    _, first, headers = await relay.post(b'{"a":1}', Idempotency_Key="k1")
    assert "Idempotent-Replayed" not in headers
    status, again, headers = await relay.post(b'{"a":1}', Idempotency_Key="k1")
    assert (status, again, headers["Idempotent-Replayed"]) == (202, first, "true")
    status, problem, _ = await relay.post(b'{"a":2}', Idempotency_Key="k1")
    assert (status, problem["code"]) == (422, "idempotency_conflict")
    assert len(relay.inbox.rows) == 1


# --- NDJSON


async def test_ndjson_keeps_line_order_and_bytes(relay: Relay):
    """Every line is a payload as it stands; empty lines and carriage returns are not."""
    status, told, _ = await relay.post(b'{"order_id":1}\r\n\n  \n{"order_id": 2}\n"three"', **NDJSON)
    assert status == 202
    assert (told["accepted"], told["duplicates"], len(told["ids"])) == (3, 0, 3)
    assert told["ids"] == sorted(told["ids"])
    assert [row.payload for row in relay.inbox.rows] == [b'{"order_id":1}', b'{"order_id": 2}', b'"three"']
    assert [row.key for row in relay.inbox.rows] == ["1", "2", None]


async def test_ndjson_lines_get_numbered_keys(relay: Relay):
    """The request's key covers its lines as key#i; repeating the request repeats nothing."""
    body = b'{"a":1}\n\n{"a":2}\n'
    _, first, _ = await relay.post(body, Idempotency_Key="day-1", **NDJSON)
    assert [row.idempotency_key for row in relay.inbox.rows] == ["day-1#1", "day-1#3"]
    status, again, headers = await relay.post(body, Idempotency_Key="day-1", **NDJSON)
    assert (status, headers["Idempotent-Replayed"]) == (202, "true")
    assert again == {"accepted": 0, "duplicates": 2, "ids": first["ids"]}
    status, problem, _ = await relay.post(b'{"a":1}\n\n{"a":3}\n{"a":4}', Idempotency_Key="day-1", **NDJSON)
    assert (status, problem["code"], problem["line"]) == (422, "idempotency_conflict", 3)
    assert len(relay.inbox.rows) == 2


async def test_ndjson_envelopes(relay: Relay):
    """With Relay-Envelope a line says key, event, priority, expiry, idempotency key; its payload is cut out as is."""
    lines = [
        b'{"payload": {"order_id" : 1, "n": 1.50}, "event": "e", "priority": "low", "expires": "10s"}',
        '{"idempotency_key":"own","key":7,"payload":"中"}'.encode(),
    ]
    status, told, _ = await relay.post(
        b"\n".join(lines), Relay_Envelope="1", Relay_Event="f", Idempotency_Key="r", **NDJSON
    )
    assert (status, told["accepted"]) == (202, 2)
    assert relay.inbox.rows == [
        NewCallback("shop-a", b'{"order_id" : 1, "n": 1.50}', "1", "e", Lane.LOW, 10.0, "r#1", None, None, ""),
        NewCallback("shop-a", '"中"'.encode(), "7", "f", Lane.NORMAL, 86400.0, "own", None, None, ""),
    ]


async def test_half_a_character_passes_as_it_is(relay: Relay):
    """JSON with an escaped half of a surrogate pair, as JavaScript writes it, is kept byte for byte; also in a line."""
    payload = rb'{"order_id":"1","nick":"abc \ud83d"}'
    assert (await relay.post(payload))[0] == 202
    assert (await relay.post(payload, **NDJSON))[0] == 202
    line = rb'{"key": "\ud83d", "payload": %b}' % payload
    assert (await relay.post(line, Relay_Envelope="1", **NDJSON))[0] == 202
    assert [row.payload for row in relay.inbox.rows] == [payload] * 3
    assert [row.key for row in relay.inbox.rows] == ["1", "1", "\ufffd"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"payload": {}', "invalid_json"),
        (b'{"key": "1"}', "invalid_json"),
        (b'{"13812345678": 1}', "invalid_json"),
        (b'{"payload": {}, "key": ["13812345678"]}', "invalid_json"),
        (b'{"payload": "\xff13812345678"}', "invalid_json"),
        (b'{"payload": {}, "priority": "13812345678"}', "invalid_header"),
        (b'{"payload": {}, "expires": "13812345678"}', "invalid_header"),
        (b'{"payload": {}, "event": ""}', "invalid_header"),
        (b'{"payload": "' + b"x" * (1024 * 1024) + b'"}', "too_large"),
        (b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
    ],
)
async def test_a_bad_envelope_names_its_line(relay: Relay, line: bytes, code: str):
    """One bad envelope refuses the request with its line number and none of its values."""
    status, problem, _ = await relay.post(b'{"payload":1}\n' * 4 + line, Relay_Envelope="1", **NDJSON)
    assert status in (400, 413)
    assert (problem["code"], problem["line"]) == (code, 5)
    assert CANARY not in json.dumps(problem) + relay.told
    assert relay.inbox.rows == []


async def test_a_bad_line_refuses_all_lines(relay: Relay):
    """Line 713 of a thousand is broken: the answer says so and nothing is accepted."""
    lines = [b'{"order_id":%d}' % number for number in range(1000)]
    lines[712] = b'{"order_id":13812345678'
    status, problem, _ = await relay.post(b"\n".join(lines), **NDJSON)
    assert (status, problem["code"], problem["line"]) == (400, "invalid_json", 713)
    assert relay.inbox.rows == []


async def test_a_long_ndjson_body_lets_others_through(relay: Relay):
    """While 50,000 lines are read, a probe is answered before they are done."""
    body = b'{"order_id":"1"}\n' * 50_000
    bulk = asyncio.create_task(relay.post(gzip.compress(body), Content_Encoding="gzip", **NDJSON))
    async with relay.session.get("/livez") as response:
        assert response.status == 200
    status, told, _ = await bulk
    assert (status, told["accepted"], len(set(told["ids"]))) == (202, 50_000, 50_000)


# --- what strangers send


@cache
def gzip_bomb() -> bytes:
    """Return 50 MB in 50 KB. To make it takes a quarter of a second, so only the test of it does."""
    return gzip.compress(b"0" * 50_000_000)


BAD: dict[str, tuple[int, str, bytes | Callable[[], bytes], dict[str, str] | list[tuple[str, str]]]] = {
    "truncated JSON": (400, "invalid_json", b'{"order_id": "13812345678', {}),
    "two values": (400, "invalid_json", b'{"order_id": "13812345678"} {}', {}),
    "invalid UTF-8": (400, "invalid_json", b'{"order_id": 1, "x": "13812345678\xff"}', {}),
    "deep JSON": (400, "invalid_json", b"[" * 200_000 + b"]" * 200_000, {}),
    "empty body": (400, "invalid_json", b"", {}),
    "1 MiB and 1 byte": (413, "too_large", b'"' + b"x" * (1024 * 1024 - 1) + b'"', {}),
    "broken gzip": (400, "bad_encoding", gzip.compress(b'{"x":"13812345678"}')[:-9], {"Content-Encoding": "gzip"}),
    "no gzip": (400, "bad_encoding", b'{"x":"13812345678"}', {"Content-Encoding": "gzip"}),
    "gzip bomb": (413, "too_large", gzip_bomb, {"Content-Encoding": "gzip"}),
    "unknown encoding": (415, "unsupported_encoding", b"{}", {"Content-Encoding": "br"}),
    "encoded twice, on two lines": (415, "unsupported_encoding", b"{}", [("Content-Encoding", "gzip")] * 2),
    "two keys": (400, "invalid_header", b"{}", [("Relay-Key", "a"), ("Relay-Key", "b")]),
    "two idempotency keys": (400, "invalid_header", b"{}", [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]),
    "bad priority": (400, "invalid_header", b"{}", {"Relay-Priority": "13812345678"}),
    "bad expiry": (400, "invalid_header", b"{}", {"Relay-Expires": "13812345678"}),
    "long idempotency key": (400, "invalid_header", b"{}", {"Idempotency-Key": "k" * 256}),
    "empty key": (400, "invalid_header", b"{}", {"Relay-Key": ""}),
    "not before what": (400, "invalid_header", b"{}", {"Relay-Not-Before": "soon"}),
    "not before where": (400, "invalid_header", b"{}", {"Relay-Not-Before": "2026-11-30T08:00:00"}),
    "not before for ever": (400, "invalid_header", b"{}", {"Relay-Not-Before": "9999-11-30T08:00:00Z"}),
    "long reference": (400, "invalid_header", b"{}", {"Relay-Reference": "\N{CJK UNIFIED IDEOGRAPH-5355}" * 67}),
    "unprintable event": (400, "invalid_header", b"{}", {"Relay-Event": "a\tb"}),
    "envelope of one": (400, "invalid_header", b"{}", {"Relay-Envelope": "1"}),
    "strange envelope": (400, "invalid_header", b"{}", {"Relay-Envelope": "2", **NDJSON}),
    "NDJSON without lines": (400, "invalid_json", b"\n\n", NDJSON),
    "NDJSON with a long line": (413, "too_large", b'{}\n"' + b"x" * (1024 * 1024) + b'"', NDJSON),
    "NDJSON with too many lines": (413, "too_large", b"1\n" * 250_001, NDJSON),
    "wrong Host": (403, "forbidden_host", b"{}", {"Host": "attacker.example"}),
    "Host that begins well": (403, "forbidden_host", b"{}", {"Host": "127.0.0.1.attacker.example"}),
    "an Origin": (403, "forbidden_origin", b"{}", {"Origin": "http://127.0.0.1:8787"}),
    "Origin null": (403, "forbidden_origin", b"{}", {"Origin": "null"}),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_with_its_code(relay: Relay, name: str):
    """Each bad input gets its code as problem+json; nothing is accepted and no value is repeated anywhere."""
    status, code, given, sent = BAD[name]
    body = given if isinstance(given, bytes) else given()
    async with relay.session.post(POST, data=io.BytesIO(body), headers=sent) as response:
        text = await response.text()
        assert response.status == status
        assert response.content_type == "application/problem+json"
        assert response.headers.get("Accept-Encoding") == ("gzip, zstd" if status == 415 else None)
    problem = json.loads(text)
    assert (problem["code"], problem["status"]) == (code, status)
    assert {"type", "title", "detail"} <= set(problem)
    assert CANARY not in text + relay.told
    assert relay.inbox.rows == []


async def test_paths_and_methods_that_are_not_served(relay: Relay):
    """Unknown platform, path, callback and method each have their code."""
    for method, path, status, code in (
        ("POST", "/v1/platforms/nobody/callbacks", 404, "unknown_platform"),
        ("POST", "/v1/platforms/shop-a/callbacks/", 404, "not_found"),
        ("POST", "/v1/callbacks", 404, "no_route"),
        ("GET", "/v1/callbacks/00000", 404, "unknown_callback"),
        ("GET", POST, 405, "method_not_allowed"),
        ("GET", "/metrics", 404, "not_found"),
    ):
        async with relay.session.request(method, path) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (status, code)
            if status == 405:
                assert response.headers["Allow"] == "DELETE, OPTIONS, POST"


async def test_a_payload_too_large_for_its_platform(relay: Relay):
    """A payload that alone in its envelope exceeds max_bytes is refused at the door, in NDJSON with its line."""
    path = "/v1/platforms/small/callbacks"
    assert (await relay.post(b'"' + b"x" * 96 + b'"', path=path))[0] == 202
    status, problem, _ = await relay.post(b'"' + b"x" * 97 + b'"', path=path)
    assert (status, problem["code"], problem["limit"]) == (413, "too_large", 98)
    status, problem, _ = await relay.post(b'1\n"' + b"x" * 97 + b'"', path=path, **NDJSON)
    assert (status, problem["code"], problem["line"]) == (413, "too_large", 2)


async def test_a_connection_dropped_halfway_leaves_nothing(relay: Relay):
    """A client that goes away in the middle of its body has posted nothing, and it is no error in the log."""
    _, writer = await asyncio.open_connection(*relay.endpoint)
    writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n" % POST.encode() + b'{"a":1}')
    await writer.drain()
    await until(lambda: relay.server._listener._open == 1)
    writer.transport.abort()
    await until(lambda: relay.server._listener._open == 0)
    assert relay.inbox.rows == []
    assert relay.log.getvalue() == b""
    assert relay.intake.admission.room.held_bytes == 0


async def test_a_slow_body_times_out():
    """A body that does not arrive in time is 408 and gives up its connection."""
    async with running(body_timeout_s=0.05) as relay:
        reader, writer = await asyncio.open_connection(*relay.endpoint)
        writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{" % POST.encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert b"408 Request Timeout" in head
        assert b"Connection: close" in head
        writer.close()
        await writer.wait_closed()
        assert relay.inbox.rows == []


async def test_malformed_http_is_counted_not_quoted(relay: Relay):
    """Smuggling attempts and garbage are 400; the log repeats none of their bytes."""
    line = b"POST %b HTTP/1.1\r\n" % POST.encode()
    for data in (
        b"\x16\x03\x01 13812345678\r\n\r\n",
        line + b"Host: localhost\r\nHost: 13812345678\r\nContent-Length: 2\r\n\r\n{}",
        line + b"Host: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        line + b"Host: localhost\r\nX-13812345678\r\n\r\n",
    ):
        answer = await relay.raw(data)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request"), data
        assert b'"code":"bad_request"' in answer
        assert CANARY.encode() not in answer
    assert CANARY not in relay.told
    assert 'code="bad_request"' in relay.told
    assert relay.inbox.rows == []


async def test_expect_continue(relay: Relay):
    """A client that asks first is told to go on, unless its body is too large anyway."""
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %%d\r\n\r\n" % POST.encode()
    reader, writer = await asyncio.open_connection(*relay.endpoint)
    writer.write(head % 2)
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 202")
    writer.close()
    await writer.wait_closed()
    reader, writer = await asyncio.open_connection(*relay.endpoint)
    writer.write(head % 10_000_000)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 413")
    writer.close()
    await writer.wait_closed()


async def test_pipelined_requests_are_answered_in_order(relay: Relay):
    """Two requests in one packet get two answers; HTTP/1.0 gets one and the connection closes."""
    one = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n%%b\r\n%%b" % POST.encode()
    answer = await relay.raw(one % (b"", b"{}") + one % (b"Connection: close\r\n", b"[1"))
    assert answer.startswith(b"HTTP/1.1 202 Accepted")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"invalid_json" in answer
    old = await relay.raw(b"HEAD /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 200")
    assert old.endswith(b"\r\n\r\n")


# --- who may come in


async def test_the_token_is_asked_for_everything_but_health():
    """With a token, posts and look-ups need it; probes do not."""
    async with running(token="s3cret") as relay:
        for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            async with relay.session.post(POST, data=b"{}", headers=sent) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
        async with relay.session.get("/v1/callbacks/x") as response:
            assert response.status == 401
        async with relay.session.get("/livez") as response:
            assert response.status == 200
        assert (await relay.post(b"{}", Authorization="Bearer s3cret"))[0] == 202
        assert "s3cret" not in relay.told


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8787", "relay.corp:8787", "pinned:1"])
async def test_hosts_that_are_served(host: str):
    """Loopback names with any port and the configured hosts are served."""
    async with running(hosts=("relay.corp", "pinned:1"), origins=("https://ops.example",)) as relay:
        assert (await relay.post(b"{}", Host=host, Origin="https://ops.example"))[0] == 202
        assert (await relay.post(b"{}", Host="pinned:2"))[0] == 403


async def test_settings_change_for_the_next_request(relay: Relay):
    """A reload swaps platforms, limits and token without closing the listener."""
    settings = IngestSettings(listen=relay.settings.listen, token="t", max_body=10)
    relay.server.configure(settings=settings, directory=Directory(Routing(), {"new": PLATFORMS["raw"]}))
    assert (await relay.post(b"{}"))[0] == 401
    assert (await relay.post(b"{}", Authorization="Bearer t"))[0] == 404
    path = "/v1/platforms/new/callbacks"
    assert (await relay.post(b"x" * 11, path=path, Authorization="Bearer t"))[0] == 413
    assert (await relay.post(b"x" * 10, path=path, Authorization="Bearer t"))[0] == 202


# --- when the store cannot


async def test_a_full_or_failed_store_is_503(relay: Relay):
    """Full and failed are told apart, each with Retry-After; recovery needs nobody."""
    for error, code in ((StoreFull("1 GiB is used"), "store_full"), (StoreFailed("fsync failed"), "store_failed")):
        relay.inbox.error = error
        for body, sent in ((b"{}", {}), (b"{}\n{}", NDJSON)):
            status, problem, headers = await relay.post(body, **sent)
            assert (status, problem["code"]) == (503, code)
            assert int(headers["Retry-After"]) >= 1
    relay.inbox.error = None
    assert (await relay.post(b"{}"))[0] == 202
    assert len(relay.inbox.rows) == 1
    assert relay.intake.admission.room.held_bytes == 0


async def test_a_hanging_commit_is_refused_within_a_second(relay: Relay):
    """While a commit hangs everyone is told 503 in time; it is never cancelled, and the repeat finds it."""
    loop = asyncio.get_running_loop()
    relay.inbox.gate = asyncio.Event()
    with Slowness() as slowness:
        began = loop.time()
        answers = await asyncio.gather(*(relay.post(b"{}", Idempotency_Key=f"k{n}") for n in range(3)))
        waited_s = loop.time() - began
    assert waited_s < 1.0 * slowness.factor
    assert {(status, told["code"]) for status, told, _ in answers} == {(503, "store_failed")}
    began = loop.time()
    assert (await relay.post(b"{}"))[0] == 503  # at once: nothing moves
    assert loop.time() - began < 0.5 * slowness.factor
    relay.inbox.gate.set()
    await until(lambda: len(relay.inbox.rows) == 3)
    status, _, headers = await relay.post(b"{}", Idempotency_Key="k0")
    assert (status, headers["Idempotent-Replayed"]) == (202, "true")


async def test_a_large_post_gets_the_time_that_its_rows_take(relay: Relay):
    """A store that syncs each write on another machine takes seconds for what a file takes in a fifth of one."""
    relay.inbox.slowest_rows_s = SHARED_ROWS_S
    relay.inbox.gate = asyncio.Event()
    lines = 4 * SHARED_ROWS_S
    post = asyncio.create_task(relay.post(b"{}\n" * lines, Content_Type="application/x-ndjson"))
    await until(lambda: bool(relay.intake.admission.watch._waiting))
    assert relay.intake.admission.watch._bound_s() > 4.0
    relay.inbox.gate.set()
    status, told, _ = await post
    assert (status, told["accepted"]) == (202, lines)


async def test_nothing_is_kept_after_malformed_http(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of what such a client sends would lie in memory, a connection's worth for each."""
    seen: list[int] = []
    parse = RequestHandler.data_received

    def counted(connection: RequestHandler, data: bytes) -> None:
        seen.append(len(data))
        parse(connection, data)

    monkeypatch.setattr(RequestHandler, "data_received", counted)
    reader, writer = await asyncio.open_connection(*relay.endpoint)
    writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n" + b"x" * 8_000_000)
    with suppress(ConnectionError):
        await writer.drain()
        await reader.read()
    writer.transport.abort()
    await until(lambda: relay.server._listener._open == 0)
    assert len(seen) == 1


async def test_a_client_that_leaves_before_the_commit_does_not_stop_it(relay: Relay):
    """Once the whole body is there, the commit goes through whether or not anyone waits for the answer."""
    relay.inbox.gate = asyncio.Event()
    _, writer = await asyncio.open_connection(*relay.endpoint)
    writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" % POST.encode())
    await until(lambda: bool(relay.intake.admission.watch._waiting))
    writer.transport.abort()
    relay.inbox.gate.set()
    await until(lambda: len(relay.inbox.rows) == 1)
    await until(lambda: relay.server._listener._open == 0)


async def test_bytes_waiting_for_the_disk_are_bounded():
    """More than max_waiting_bytes waiting is 503; what waits is given back by its commit."""
    async with running(bounds={"max_waiting_bytes": 1000}) as relay:
        relay.inbox.gate = asyncio.Event()
        big = b'"' + b"x" * 900 + b'"'
        first = asyncio.create_task(relay.post(big))
        await until(lambda: relay.intake.admission.room.held_bytes > 0)
        status, problem, headers = await relay.post(big)
        assert (status, problem["code"], headers["Retry-After"]) == (503, "overloaded", "1")
        relay.inbox.gate.set()
        assert (await first)[0] == 202
        assert relay.intake.admission.room.held_bytes == 0


async def test_readyz_follows_the_store(relay: Relay, monkeypatch: pytest.MonkeyPatch):
    """Ready while the store commits, 503 while it cannot or hangs, live throughout."""
    async with relay.session.get("/readyz") as response:
        assert response.status == 200

    async def broken() -> None:
        raise StoreFailed("no space left")

    health = relay.server.health
    monkeypatch.setattr(health, "_ping", broken)
    monkeypatch.setattr(health, "_checked_at", -1.0)
    async with relay.session.get("/readyz") as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (503, "store_failed")
    async with relay.session.head("/livez") as response:
        assert response.status == 200
    hang = asyncio.Event()
    monkeypatch.setattr(health, "_ping", hang.wait)
    monkeypatch.setattr(health, "_checked_at", -1.0)
    async with relay.session.get("/readyz", timeout=aiohttp.ClientTimeout(20)) as response:
        assert response.status == 503
    hang.set()


# --- the socket


async def test_a_unix_socket(tmp_path: Path):
    """A unix socket has mode 0660 and serves any Host; replaced when stale, refused when alive, removed at the end."""
    path = tmp_path / "relay.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with running(f"unix:{path}") as relay:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (await relay.post(b"{}", Host="anything"))[0] == 202
        with pytest.raises(RelayError, match="another process"):
            async with running(f"unix:{path}"):
                pass
        assert (await relay.post(b"{}"))[0] == 202
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(RelayError, match="no socket"):
        async with running(f"unix:{path}"):
            pass
    assert path.read_text() == "precious"


async def test_links_in_the_place_of_a_socket(tmp_path: Path):
    """A symbolic link is refused wherever it leads; what was put in the place of our socket is not removed."""
    path, elsewhere = tmp_path / "relay.sock", tmp_path / "other.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(elsewhere))
    stale.close()
    for target in (elsewhere, tmp_path / "nowhere"):
        path.symlink_to(target)
        with pytest.raises(RelayError, match="no socket"):
            async with running(f"unix:{path}"):
                pass
        assert path.is_symlink()
        path.unlink()
    assert elsewhere.exists()
    async with running(f"unix:{path}"):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.exists()
    other.close()


async def test_a_port_in_use_is_named(relay: Relay):
    """An address that cannot be had is an error that names it and says what to do."""
    for address, why in (
        (relay.server.address, "port is in use"),
        ("192.0.2.1:8787", "no such address"),
        ("8787", "write host:port"),
    ):
        with pytest.raises(RelayError, match=why) as error:
            async with running(address):
                pass
        assert address in str(error.value)


async def test_ipv6(relay: Relay):
    """A v6 address is written in brackets."""
    async with running("[::1]:0") as relay:
        assert relay.server.address.startswith("[::1]:")
        assert (await relay.post(b"{}"))[0] == 202


async def test_closing_finishes_what_is_under_way():
    """At close no connection is taken any more, a request under way gets its 202, one that hangs is cut off."""
    async with running() as relay:
        relay.inbox.gate = asyncio.Event()
        under_way = asyncio.create_task(relay.post(b"{}"))
        await until(lambda: bool(relay.intake.admission.watch._waiting))
        closing = asyncio.create_task(relay.server.close(5.0))
        await until(lambda: relay.server.health.stopping)
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection(*relay.endpoint)
        relay.inbox.gate.set()
        status, _, headers = await under_way
        assert (status, headers["Connection"]) == (202, "close")
        assert await closing == 0
    async with running() as relay:
        relay.inbox.gate = asyncio.Event()
        hanging = asyncio.create_task(relay.post(b"{}"))
        await until(lambda: bool(relay.intake.admission.watch._waiting))
        assert await relay.server.close(0.05) == 1
        with pytest.raises(aiohttp.ClientError):
            await hanging
        relay.inbox.gate.set()
        await until(lambda: len(relay.inbox.rows) == 1)


async def test_inherited_sockets_are_served():
    """Sockets that systemd opened are served instead of new ones, all of them."""
    sockets = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))]
    relay = Relay(IngestSettings(), PLATFORMS)
    await relay.server.start(inherited=sockets)
    assert relay.server.addresses == [f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]
    for sock in sockets:
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        writer.close()
    await relay.server.close(1.0)


async def test_the_store_shows_what_was_accepted(relay: Relay):
    """What was answered 202 is in the ledger: the totals agree with the answers."""
    await relay.post(b"{}")
    await relay.post(b"{}\n{}", **NDJSON)
    totals = await relay.store.totals()
    assert totals["shop-a"].accepted == totals["shop-a"].pending == 3
    page, _ = await relay.store.callbacks(Filter(platform="shop-a"), cursor=None, limit=10)
    assert len(page) == 3


async def test_every_route_that_is_told_is_served(relay: Relay) -> None:
    """What ``/openapi.json`` tells of this listener and of the probes, it answers."""
    for route in (*ROUTES, *PROBES):
        path = route.path.replace("{platform}", "shop-a").replace("{id}", "1")
        async with relay.session.request(route.method, path) as response:
            found = await response.json()
        assert found.get("code") not in ("not_found", "method_not_allowed", "internal"), route


async def test_keys_of_accepted_are_told(relay: Relay) -> None:
    """The document names each key that a post is answered with."""
    told = document(ROUTES)["components"]["schemas"]
    one = (await relay.post())[1]
    lines = (await relay.post(b"{}\n{}", Content_Type="application/x-ndjson"))[1]

    assert list(one) == list(told["AcceptedView"]["properties"])
    assert list(lines) == list(told["AcceptedLines"]["properties"])


async def test_the_document_needs_the_token() -> None:
    """As every route of this listener but the probes does."""
    async with running(token="secret") as relay:
        for token, status in (("wrong", 401), ("secret", 200)):
            headers = {"Authorization": f"Bearer {token}"}
            async with relay.session.get("/openapi.json", headers=headers) as response:
                assert response.status == status
                assert status == 401 or (await response.json()) == {"openapi": "3.1.0"}
