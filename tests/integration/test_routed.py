"""Routed posts and drop-in paths over real sockets, on both stores."""

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from relay.core.errors import StoreFailed
from relay.core.model import UNROUTED, Filter
from relay.ingest.fan_out import Routing, compile_route
from relay.ingest.intake import IngestSettings, Intake
from relay.ingest.posts import Directory, DropIn
from relay.ingest.rows import PlatformIntake
from relay.ingest.server import IngestServer
from relay.store.base import Store
from relay.store.memory.backend import MemoryStore
from relay.store.sqlite.backend import SqliteStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.web.guard import PostToken
from relay.wire.payload.extract import KeyPath
from tests.clocks import FakeClock

NDJSON = {"Content-Type": "application/x-ndjson"}
WX = PlatformIntake(name="wx", needs_json=True, expires_s=600.0, max_bytes=200, key=KeyPath("order_id"))
RAW = PlatformIntake(name="raw", needs_json=False, expires_s=900.0, max_bytes=2000)
PLATFORMS = {"wx": WX, "raw": RAW}
ROUTES = [
    compile_route("routes[0]", {"event": ["order.*"], "channel": ["wechat"]}, ["wx", "raw"]),
    compile_route("routes[1]", {"event": ["order.*"]}, ["raw"]),
]
REJECTING = Directory(Routing(ROUTES), PLATFORMS)
KEEPING = Directory(Routing(ROUTES, otherwise=[UNROUTED]), PLATFORMS)
DROP_INS = [
    DropIn("/wx/notify", WX, 200, b'{"errcode":0}', "application/json"),
    DropIn("/raw", RAW, 204, b"", "text/plain"),
]


class Relay:
    """One running ingest listener over a store."""

    def __init__(self, store: Store, server: IngestServer, metrics: Metrics, session: aiohttp.ClientSession) -> None:
        self.store = store
        self.server = server
        self.metrics = metrics
        self.session = session
        self.settings = IngestSettings(listen="127.0.0.1:0")

    async def post(self, body: bytes, path: str = "/v1/callbacks", method: str = "POST", **headers: str) -> Any:
        """Post and return status, decoded body and headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, path, data=io.BytesIO(body), headers=named) as response:
            raw = await response.read()
            return response.status, json.loads(raw) if raw[:1] == b"{" else raw, response.headers

    async def lines(self, *lines: bytes, **headers: str) -> Any:
        """Post lines as NDJSON."""
        return await self.post(b"\n".join(lines), **NDJSON, **headers)

    def route(self, directory: Directory) -> None:
        """Put other routes in force, as a reload does."""
        self.server.configure(settings=self.settings, directory=directory._replace(drop_ins=DROP_INS))

    async def accepted(self) -> dict[str, int]:
        """Return how many callbacks each platform got, after checking that the ledger balances."""
        totals = await self.store.totals()
        for name, figures in totals.items():
            assert figures.unaccounted == 0, name
        return {name: figures.accepted for name, figures in totals.items() if figures.accepted}


async def sqlite(directory: Path) -> Store:
    """Open a file."""
    return await SqliteStore.open(directory / "relay.db", clock=FakeClock())


async def memory(directory: Path) -> Store:
    """Open nothing."""
    return MemoryStore(clock=FakeClock())


@pytest.fixture(params=[memory, sqlite], ids=["memory", "sqlite"])
async def relay(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Relay]:
    """A listener that rejects what no route takes."""
    open_store: Callable[[Path], Awaitable[Store]] = request.param
    async with AsyncExitStack() as stack:
        store = await open_store(tmp_path)
        stack.push_async_callback(store.close)
        metrics = Metrics()
        intake = Intake(inbox=store)
        stack.callback(intake.close)
        server = IngestServer(
            settings=IngestSettings(listen="127.0.0.1:0"),
            directory=REJECTING._replace(drop_ins=DROP_INS),
            intake=intake,
            ping=store.ping,
            describe=store.callback,
            openapi=lambda: b'{"openapi": "3.1.0"}',
            events=Events(log=make_logger(file=io.BytesIO(), level="debug"), metrics=metrics),
            expiring=lambda seconds: None,
        )
        await server.start()
        stack.push_async_callback(server.close, 1.0)
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://{server.address}"))
        yield Relay(store, server, metrics, session)


async def test_one_post_for_two_platforms(relay: Relay) -> None:
    """The answer names each target's id, each callback has its platform's key and expiry, the bytes are the same."""
    body = b'{ "channel": "wechat", "order_id": 7 }'
    status, told, headers = await relay.post(body, Relay_Event="order.paid", Content_Type="application/json")
    assert (status, list(told), list(told["ids"])) == (202, ["ids"], ["wx", "raw"])
    assert "Idempotent-Replayed" not in headers
    found = {name: await relay.store.callback(one, payload=True) for name, one in told["ids"].items()}
    assert {
        name: (one.platform, one.payload, one.key, one.event, one.expires_at - one.accepted_at)
        for name, one in found.items()
        if one
    } == {
        "wx": ("wx", body, "7", "order.paid", 600.0),
        "raw": ("raw", body, None, "order.paid", 900.0),
    }
    async with relay.session.get(f"/v1/callbacks/{told['ids']['raw']}") as response:
        assert (await response.json())["state"] == "pending"


async def test_no_route_is_404(relay: Relay) -> None:
    """Nothing is kept, with or without an idempotency key; without any routes the answer says so."""
    for given in ({}, {"Idempotency_Key": "k"}):
        status, told, _ = await relay.post(b"{}", Relay_Event="stock", **given)
        assert (status, told["code"]) == (404, "no_route")
    relay.route(Directory(Routing(), PLATFORMS))
    status, told, _ = await relay.post(b"{}", Relay_Event="order.paid")
    assert (status, told["code"]) == (404, "no_route")
    assert "no `routes:` are configured" in told["detail"]
    assert await relay.accepted() == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"channel": "wechat", ', "no_route"), (b'{"channel":"wechat","x":"' + b"y" * 300 + b'"}', "too_large")],
)
async def test_all_targets_or_none(relay: Relay, body: bytes, code: str) -> None:
    """What one target cannot take is accepted for none."""
    if code == "no_route":  # broken JSON has no fields, so only the route by event can take it
        relay.route(Directory(Routing(ROUTES[:1]), PLATFORMS))
    status, told, _ = await relay.post(body, Relay_Event="order.paid")
    assert (status, told["code"]) == ({"no_route": 404, "too_large": 413}[code], code)
    assert await relay.accepted() == {}


async def test_a_target_that_needs_json_refuses_other_bytes(relay: Relay) -> None:
    """A route by event alone may lead bytes to a platform that takes JSON only: 400 naming it."""
    relay.route(Directory(Routing([compile_route("routes[0]", {"event": ["*"]}, ["raw", "wx"])]), PLATFORMS))
    status, told, _ = await relay.post(b"a=1&b=2", Relay_Event="x")
    assert (status, told["code"], told["detail"][:7]) == (400, "invalid_json", "for wx:")
    assert await relay.accepted() == {}


async def test_repeat_of_a_routed_post(relay: Relay) -> None:
    """The same key and body has the first ids whatever the routes say by then, even nothing; another body is 422."""
    body, given = b'{"channel":"wechat"}', {"Relay_Event": "order.paid", "Idempotency_Key": "k"}
    _, first, _ = await relay.post(body, **given)
    for routes in (ROUTES, ROUTES[1:], []):
        relay.route(Directory(Routing(routes), PLATFORMS))
        status, told, headers = await relay.post(body, **given)
        assert (status, told, headers["Idempotent-Replayed"]) == (202, first, "true")
    assert (await relay.post(b"{}", **given))[1]["code"] in ("idempotency_conflict",)
    relay.route(REJECTING)
    for other in ({"Relay_Event": "order.shipped"}, {"Relay_Key": "x"}):
        status, told, _ = await relay.post(body, **{**given, **other})
        assert (status, told["code"]) == (422, "idempotency_conflict")
    assert await relay.accepted() == {"wx": 1, "raw": 1}
    # The key of a post to one platform is another one.
    status, _, headers = await relay.post(body, path="/v1/platforms/wx/callbacks", Idempotency_Key="k")
    assert (status, headers.get("Idempotent-Replayed")) == (202, None)
    assert 'relay_callbacks_total{platform="wx",result="duplicate"} 3.0' in relay.metrics.render().decode()


async def test_many_routed_lines(relay: Relay) -> None:
    """Each line is routed by itself; ids come in line order; accepted and duplicates count callbacks, not lines."""
    lines = [
        b'{"payload": {"channel": "wechat", "n": 1}, "event": "order.paid", "idempotency_key": "own"}',
        b"",
        b'{"payload": {"channel": "taobao", "n": 2}, "event": "order.paid", "key": 5}\r',
        b'{"payload": {"n": 3}, "expires": "5s", "priority": "high"}',
    ]
    given = {"Relay_Envelope": "1", "Relay_Event": "order.late", "Idempotency_Key": "bulk"}
    status, told, headers = await relay.lines(*lines, **given)
    assert (status, told["accepted"], told["duplicates"]) == (202, 4, 0)
    assert [list(ids) for ids in told["ids"]] == [["wx", "raw"], ["raw"], ["raw"]]
    assert "Idempotent-Replayed" not in headers
    shown = [await relay.store.callback(ids["raw"], payload=True) for ids in told["ids"]]
    assert [(one.payload, one.event, one.key, one.priority) for one in shown if one] == [
        (b'{"channel": "wechat", "n": 1}', "order.paid", None, "normal"),
        (b'{"channel": "taobao", "n": 2}', "order.paid", "5", "normal"),
        (b'{"n": 3}', "order.late", None, "high"),
    ]
    again = await relay.lines(*lines, **given)
    assert (again[1], again[2]["Idempotent-Replayed"]) == ({**told, "accepted": 0, "duplicates": 4}, "true")
    status, more, _ = await relay.lines(*lines, b'{"payload": 4}', **given)
    assert (more["accepted"], more["duplicates"], more["ids"][:3]) == (1, 4, told["ids"])
    assert await relay.accepted() == {"wx": 1, "raw": 4}


async def test_plain_lines(relay: Relay) -> None:
    """A line may be the payload itself; an empty body is no callbacks."""
    status, told, _ = await relay.lines(b'{"channel":"wechat"}', b"x", Relay_Event="order.x")
    assert (status, told["accepted"], [list(ids) for ids in told["ids"]]) == (202, 3, [["wx", "raw"], ["raw"]])
    assert (await relay.lines(b"", Relay_Event="order.x"))[1] == {"accepted": 0, "duplicates": 0, "ids": []}


@pytest.mark.parametrize("given", [{}, {"Idempotency_Key": "k"}], ids=["plain", "with a key"])
async def test_a_line_without_a_route_refuses_all(relay: Relay, given: dict[str, str]) -> None:
    """The problem names the line as it stands in the body, and nothing is accepted."""
    lines = (b'{"payload":1,"event":"order.x"}', b"", b'{"payload":2,"event":"stock"}')
    status, told, _ = await relay.lines(*lines, Relay_Envelope="1", **given)
    assert (status, told["code"], told["line"]) == (404, "no_route", 3)
    assert told["detail"].startswith("line 3: ")
    assert told["detail"].endswith("nothing was accepted")
    assert await relay.accepted() == {}


async def test_a_conflicting_line_refuses_all(relay: Relay) -> None:
    """A line that repeats a key with another body is named, and nothing is accepted."""
    await relay.lines(b"1", b"2", Relay_Event="order.x", Idempotency_Key="k")
    status, told, _ = await relay.lines(b"", b"3", b"9", Relay_Event="order.x", Idempotency_Key="k")
    assert (status, told["code"], told["line"]) == (422, "idempotency_conflict", 2)
    assert await relay.accepted() == {"raw": 2}


async def test_dead_letter_for_what_no_route_takes(relay: Relay) -> None:
    """It is kept as a dead letter of the reserved platform with its reason, and found again by its key."""
    relay.route(KEEPING)
    status, told, _ = await relay.post(b"\xff raw", Relay_Event="stock", Relay_Key="k", Idempotency_Key="i")
    assert (status, list(told["ids"])) == (202, [UNROUTED])
    found = await relay.store.callback(told["ids"][UNROUTED], payload=True)
    assert found is not None
    assert (found.state, found.reason, found.payload, found.key) == ("dead", "unrouted", b"\xff raw", "k")
    assert (await relay.post(b"\xff raw", Relay_Event="stock", Relay_Key="k", Idempotency_Key="i"))[1] == told
    status, told, _ = await relay.lines(b"1", b"2", Relay_Event="stock")
    assert (told["accepted"], [list(ids) for ids in told["ids"]]) == (2, [[UNROUTED], [UNROUTED]])
    listed, _ = await relay.store.callbacks(Filter(platform=UNROUTED, state="dead"), cursor=None, limit=10)
    assert len(listed) == 3
    assert await relay.accepted() == {UNROUTED: 3}
    assert 'relay_dead_letters_total{platform="_unrouted",reason="unrouted"} 3.0' in relay.metrics.render().decode()
    assert (await relay.post(b"{}", path=f"/v1/platforms/{UNROUTED}/callbacks"))[1]["code"] == "unknown_platform"


async def test_drop_in_paths(relay: Relay) -> None:
    """Existing code posts as ever and gets the platform's own answer, once the callback is on disk."""
    body = b'{"order_id": 3}'
    for method, path in (("POST", "/wx/notify"), ("PUT", "/wx/notify?access_token=t&x=1"), ("PATCH", "/wx/notify")):
        status, told, headers = await relay.post(body, path=path, method=method, Content_Type="application/json")
        assert (status, told, headers["Content-Type"]) == (200, {"errcode": 0}, "application/json")
    items, _ = await relay.store.callbacks(Filter(platform="wx"), cursor=None, limit=10)
    assert [(item.key, item.state) for item in items] == [("3", "pending")] * 3
    form = b"trade_no=1&sign=%E4%B8%AD"
    status, told, headers = await relay.post(form, path="/raw", Content_Type="application/x-www-form-urlencoded")
    assert (status, told, headers.get("Content-Length")) == (204, b"", None)
    (item,), _ = await relay.store.callbacks(Filter(platform="raw"), cursor=None, limit=10)
    shown = await relay.store.callback(item.id, payload=True)
    assert shown is not None
    assert shown.payload == form
    status, told, _ = await relay.post(b"1\n2", path="/raw", **NDJSON)
    assert status == 204
    assert await relay.accepted() == {"wx": 3, "raw": 2}


async def test_drop_in_failures_are_errors(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body the platform cannot take, another method, a store that fails: never the configured answer."""
    assert (await relay.post(b"no json", path="/wx/notify"))[0] == 400
    status, _, headers = await relay.post(b"", path="/wx/notify", method="GET")
    assert (status, headers["Allow"]) == (405, "OPTIONS, PATCH, POST, PUT")
    assert (await relay.post(b"{}", path="/wx"))[0] == 404
    assert (await relay.post(b"x" * 3000, path="/raw"))[0] == 413

    async def failing(rows: Any) -> Any:
        raise StoreFailed("disk gone")

    monkeypatch.setattr(relay.store, "accept", failing)
    monkeypatch.setattr(relay.store, "accept_posts", failing)
    for path, given in (("/wx/notify", {}), ("/v1/callbacks", {"Relay_Event": "order.x"})):
        status, told, headers = await relay.post(b"{}", path=path, **given)
        assert (status, told["code"], headers["Retry-After"]) == (503, "store_failed", "1")
    assert await relay.accepted() == {}


async def test_drop_in_repeats_and_reload(relay: Relay) -> None:
    """An idempotency key works there too; a reload takes paths away and adds others."""
    for replayed in (None, "true"):
        _, _, headers = await relay.post(b"{}", path="/wx/notify", Idempotency_Key="k")
        assert headers.get("Idempotent-Replayed") == replayed
    assert (await relay.post(b"[]", path="/wx/notify", Idempotency_Key="k"))[0] == 422
    moved = DropIn("/new", WX, 201, b"ok", "text/plain")
    relay.server.configure(settings=relay.settings, directory=REJECTING._replace(drop_ins=[moved]))
    assert (await relay.post(b"{}", path="/wx/notify"))[0] == 404
    assert (await relay.post(b"{}", path="/new"))[:2] == (201, b"ok")
    assert await relay.accepted() == {"wx": 2}


async def test_the_token_guards_both(relay: Relay) -> None:
    """Where a token is set, routed posts and drop-in paths need it."""
    guarded = IngestSettings(listen="127.0.0.1:0", token="t")
    relay.server.configure(settings=guarded, directory=REJECTING._replace(drop_ins=DROP_INS))
    for path in ("/v1/callbacks", "/wx/notify"):
        assert (await relay.post(b"{}", path=path, Relay_Event="order.x"))[0] == 401
    assert (await relay.post(b"{}", Relay_Event="order.x", Authorization="Bearer t"))[0] == 202


async def test_a_token_posts_to_its_platforms_alone(relay: Relay) -> None:
    """One platform of a fan-out that it is not for, and nothing is accepted; nor does it see callbacks of others."""
    settings = IngestSettings(
        listen="127.0.0.1:0",
        token="all-token",
        tokens=(PostToken("raw-token", frozenset({"raw"})),),
    )
    relay.server.configure(settings=settings, directory=REJECTING._replace(drop_ins=DROP_INS))
    mine, everyone = {"Authorization": "Bearer raw-token"}, {"Authorization": "Bearer all-token"}
    for path in ("/v1/platforms/raw/callbacks", "/v1/platforms/wx/callbacks", "/v1/platforms/none/callbacks"):
        status, told, _ = await relay.post(b'{"order_id": 1}', path=path, **mine)
        assert (status, told.get("code", "")) == ((202, "") if "/raw/" in path else (403, "forbidden"))
    body = b'{ "channel": "wechat", "order_id": 7 }'
    before = await relay.accepted()
    for content_type in ("application/json", "application/x-ndjson"):
        status, told, _ = await relay.post(body, Relay_Event="order.paid", Content_Type=content_type, **mine)
        assert (status, told["code"]) == (403, "forbidden")
    assert await relay.accepted() == before
    status, told, _ = await relay.post(body, Relay_Event="order.paid", **everyone)
    assert status == 202
    for name, headers, expected in (("raw", mine, 200), ("wx", mine, 404), ("wx", everyone, 200)):
        async with relay.session.get(f"/v1/callbacks/{told['ids'][name]}", headers=headers) as response:
            assert response.status == expected
    for name, headers, expected in (("wx", mine, 404), ("raw", mine, 200), ("wx", everyone, 200)):
        async with relay.session.delete(f"/v1/callbacks/{told['ids'][name]}", headers=headers) as response:
            assert response.status == expected
    for name, expected in (("wx", 403), ("raw", 200)):
        async with relay.session.delete(f"/v1/platforms/{name}/callbacks?key=7", headers=mine) as response:
            assert response.status == expected
