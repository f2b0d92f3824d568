"""Who sees what: every role and view on every route of the OpenAPI document, reveals and exports."""

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from relay.admin.access import User
from relay.admin.reveals import RevealLimit
from relay.core.model import Batch, ClaimRequest, Filter, Outcome, Rate, State
from relay.core.settlement import AttemptResult, Ending, Settlement
from relay.privacy.views import Lenses, PathRule, Shade, View
from relay.views.moments import plain
from tests.integration.admin_side import START, USERS, AdminSide, admin_side

ROLES = {
    "stats": {"stats"},
    "viewer": {"stats", "view"},
    "operator": {"stats", "view", "operate"},
    "privacy": {"stats", "view", "reveal", "forget"},
    "admin": {"stats", "view", "operate", "reveal", "forget"},
}
LOGIN = (("post", "/v1/session"), ("delete", "/v1/session"))
ORDERS = [
    {"order_id": f"A-99{n}", "receiver": {"name": name, "phone": phone, "address": address}, "nickname": "tea-lover"}
    for n, (name, phone, address) in enumerate(
        [("张三丰", "13812345678", "杭州市文三路90号"), ("李清照", "13987654321", "济南市泉城路7号")]
    )
]
CANARIES = [str(value) for order in ORDERS for value in order["receiver"].values()]  # type: ignore[attr-defined]
VIEWS = {
    "service": View((PathRule(("order_id",), Shade.SHOW), PathRule(("nickname",), Shade.SHOW)), Shade.HIDE),
    "keyless": View((PathRule(("key",), Shade.HIDE),), Shade.HIDE),
    "whole": View((), Shade.SHOW),
}
SEERS = [*USERS, *(User(f"viewer-{view}", "viewer", f"viewer-{view}-token", view) for view in VIEWS)]
SEERS.append(User("privacy-service", "privacy", "privacy-service-token", "service"))


@pytest.fixture
async def side() -> AsyncIterator[AdminSide]:
    """Two orders of one batch, refused by a platform that repeats them in its answer."""
    async with admin_side(users=SEERS, lenses=Lenses((), VIEWS)) as made:
        for n, order in enumerate(ORDERS):
            await made.accept(payload=msgspec.json.encode(order), key=f"key-{n}")
        batch = await made.store.claim(ClaimRequest("shop-a", None, 9, 1 << 20, 2, 1, 0.0, 0, True))
        assert isinstance(batch, Batch)
        said = f"no such receivers: {json.dumps(CANARIES)} {CANARIES}"
        result = AttemptResult(Outcome.REJECT, START, 0.1, status=400, reason=f"400: {CANARIES[0]}", excerpt=said)
        seqs = [item.seq for item in batch.items]
        ending = Ending(seqs, State.DEAD, f"rejected {CANARIES[0]}", message=f"{CANARIES[0]} {CANARIES[1]}", code="77")
        await made.store.settle(Settlement(batch.number, batch.attempt_id, "shop-a", result, endings=[ending]))
        await made.store.start_operation("retry", Filter(key="key-0"), expect_count=1)
        (newest, *_), _ = await made.store.callbacks(Filter(key="key-0"), cursor=None, limit=1)
        sent = {"id": newest.id, "state": "dead", "at": None, "reason": f"rejected {CANARIES[0]} {CANARIES[3]}"}
        found = {
            "key": "key-0",
            "kind": "missing",
            "why": "dead",
            "order_center": None,
            "platform": None,
            "relay": sent,
        }
        made.reconciler.kept = {
            "run": "20261129T024000000Z", "platform": "shop-a", "state": "done",
            "differences": [{**found, "proposal": "retry", "first_seen": None, "runs": 1}],
            "verified_orders": [{"key": "key-0", "result": "still"}],
        }  # fmt: skip
        yield made


async def _ask(side: AdminSide, user: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {user}-token"}
    async with (
        aiohttp.ClientSession(side.url, headers=headers) as http,
        http.request(method, path, json=body) as answer,
    ):
        if answer.content_type == "text/event-stream":  # it has no end
            read = b""
            async with asyncio.timeout(20):
                while b"\n\n" not in read:
                    read += await answer.content.readany()
            return answer.status, read.decode()
        return answer.status, await answer.text()


async def _ids(side: AdminSide) -> list[str]:
    items = json.loads((await _ask(side, "admin", "GET", "/v1/callbacks"))[1])["items"]
    return [each["id"] for each in items]


async def test_every_route_of_the_document_is_denied_unless_granted(side: AdminSide) -> None:
    """Each route says which permission it needs; each role without it gets 403, a stranger nothing at all."""
    callback_id = (await _ids(side))[0]
    routes = [
        (method.upper(), path, told)
        for path, methods in side.api.document["paths"].items()
        for method, told in methods.items()
        if "admin" in told["tags"] and path not in ("/livez", "/readyz") and (method, path) not in LOGIN
    ]
    assert len(routes) > 25
    for method, path, told in routes:
        needs = told["x-permission"]
        asked = path.replace("{platform}", "shop-a").replace("{id}", callback_id)
        for role, grants in ROLES.items():
            status, _ = await _ask(side, role, method, asked)
            assert (status == 403) == (needs not in grants), (role, method, path, status)
        assert (await _ask(side, "stranger", method, asked))[0] == 401, path


async def test_no_route_shows_a_value_that_its_viewer_may_not_see(side: AdminSide) -> None:
    """Payloads, excerpts, messages and reasons, of the callback itself and of the others in its batch."""
    callback_id = (await _ids(side))[0]
    seen, keyed = 0, set()
    gets = [path for path, methods in side.api.document["paths"].items() if "get" in methods]
    variants = [
        *gets,
        "/v1/operations/1",
        "/v1/callbacks/{id}?payload=1",
        "/v1/callbacks?format=jsonl",
        "/v1/callbacks?format=csv",
    ]
    for user in SEERS:
        for path in variants:
            asked = path.replace("{platform}", "shop-a").replace("{id}", callback_id)
            status, text = await _ask(side, user.name, "GET", asked)
            found = [canary for canary in CANARIES if canary in text or json.dumps(canary)[1:-1] in text]
            if user.view == "whole":
                seen += bool(found)
            else:
                assert found == [], (user, path, status, text)
            if user.role == "stats":
                assert callback_id not in text, (path, text)
            if user.view == "keyless":
                assert "key-0" not in text, (path, text)
            elif "key-0" in text:
                keyed.add(path)
    runs = "/v1/reconciliations/{run}"
    assert {"/v1/operations", "/v1/operations/1", "/v1/events", "/v1/callbacks", runs} <= keyed
    assert seen >= 7  # the one who may see everything does: payload, lists, groups, exports, platform


async def test_no_order_is_looked_up_by_who_sees_totals_alone(side: AdminSide) -> None:
    """How many dead letters an order has tells of single callbacks: 403 for stats, also where there are none."""
    path = "/v1/dead-letters/groups"
    for key in ("key-0", "nobody"):
        assert [(await _ask(side, user, "GET", f"{path}?key={key}"))[0] for user in ("stats", "viewer")] == [403, 200]
    for user in ("stats", "viewer"):
        groups = json.loads((await _ask(side, user, "GET", path))[1])["items"]
        assert ["sample" in each for each in groups] == [user == "viewer"]


async def test_a_view_goes_through_api_and_export(side: AdminSide) -> None:
    """Shown is what the view shows, the rest keeps its shape; the ordering key is shown."""
    callback_id = (await _ids(side))[1]
    shown = {"order_id": "A-990", "nickname": "tea-lover"}
    hidden = {"receiver": {"name": "***", "phone": "***", "address": "***"}}
    for user in ("viewer-service", "privacy-service"):
        view = json.loads((await _ask(side, user, "GET", f"/v1/callbacks/{callback_id}?payload=1"))[1])
        assert (view["payload"], view["payload_form"], view["key"]) == (shown | hidden, "masked", "key-0")
        lines = (await _ask(side, user, "GET", "/v1/callbacks?format=jsonl&state=dead"))[1].splitlines()
        head, first, second = map(json.loads, lines)
        assert head["export"] == {
            "who": user,
            "role": user.partition("-")[0],
            "view": "service",
            "at": "2026-09-21T14:13:20.000Z",
            "filter": {"state": "dead"},
        }
        assert (second["id"], second["payload"]) == (callback_id, shown | hidden)
        assert first["payload"]["order_id"] == "A-991"
    actions = [(each["action"], each["target"]) for each in side.records]
    assert actions == [("payload.view", callback_id), ("payload.export", "*")] * 2


async def test_a_csv_export_names_who_and_when_and_holds_no_formula(side: AdminSide) -> None:
    """The first line is a comment; a cell that a spreadsheet would compute is quoted."""
    await side.accept(payload=b'{"order_id":"=1+1"}', key="=HYPERLINK(1)", platform="shop-b")
    _, text = await _ask(side, "operator", "GET", "/v1/callbacks?format=csv&platform=shop-b")
    comment, *rest = text.splitlines()
    assert comment.startswith('# export {"who":"operator","role":"operator","view":null,"at":"2026-09-21T')
    assert comment.endswith('"filter":{"platform":"shop-b"}}')
    (row,) = csv.DictReader(rest)
    assert (row["key"], row["payload"], row["state"]) == ("'=HYPERLINK(1)", '{"order_id": "=***"}', "pending")
    for query in ("format=xml", "format=csv&cursor=1.1", "format=csv&limit=all"):
        assert (await _ask(side, "operator", "GET", f"/v1/callbacks?{query}"))[0] == 400
    assert len((await _ask(side, "operator", "GET", "/v1/callbacks?format=jsonl&limit=2"))[1].splitlines()) == 3


async def _reveal(side: AdminSide, user: str, callback_id: str, **body: Any) -> tuple[int, Any]:
    status, text = await _ask(side, user, "POST", f"/v1/callbacks/{callback_id}/reveal", body)
    return status, json.loads(text)


async def test_a_reveal_shows_the_payload_once_and_is_recorded(side: AdminSide) -> None:
    """With the right, the own token again and a reason; each refusal is recorded too, and shows nothing."""
    callback_id = (await _ids(side))[1]
    given = {"reason": "ticket 4711", "token": "privacy-token"}
    status, answer = await _reveal(side, "privacy", callback_id, **given)
    assert (status, answer["payload"], answer["payload_form"]) == (200, ORDERS[0], "json")
    for user, change, code in (
        ("operator", {"token": "operator-token"}, "forbidden"),
        ("privacy", {"token": "admin-token"}, "forbidden"),
        ("privacy", {"token": "guess"}, "forbidden"),
        ("privacy", {"token": None}, "invalid_request"),
        ("privacy", {"reason": " "}, "invalid_request"),
    ):
        status, answer = await _reveal(side, user, callback_id, **{**given, **change})
        assert (answer["code"], "payload" in answer) == (code, False), (user, change)
    assert (await _reveal(side, "privacy", "NOSUCHID", **given))[0] == 404
    told = [(each["who"], each["action"], each["reason"]) for each in side.records]
    assert told[0] == ("privacy", "payload.reveal", "ticket 4711")
    assert [(who, action) for who, action, _ in told[1:]] == [
        ("operator", "payload.reveal_refused"),
        *[("privacy", "payload.reveal_refused")] * 5,
    ]
    assert "guess" not in str(told)
    assert {each["target"] for each in side.records} == {callback_id, "NOSUCHID"}  # so whoever looks finds them all


async def test_reveals_are_limited_by_the_hour() -> None:
    """One more is 429 with when the next may be, and somebody is told; refused ones do not count; a restart forgets
    nothing."""
    async with admin_side(users=USERS, reveals=Rate(2, 3600.0)) as side:
        (callback_id,) = await side.accept()
        given = {"reason": "ticket", "token": "admin-token"}
        assert (await _reveal(side, "admin", callback_id, **{**given, "token": "wrong"}))[0] == 403
        side.clock.at += 60
        for _ in range(2):
            assert (await _reveal(side, "admin", callback_id, **given))[0] == 200
        assert side.reveals.refused() == ()
        side.clock.at += 600
        status, answer = await _reveal(side, "admin", callback_id, **given)
        assert (status, answer["code"], "the next in 3000 s" in answer["detail"]) == (429, "too_many_reveals", True)
        assert side.reveals.refused() == ("admin",)
        assert (await _reveal(side, "privacy", callback_id, reason="own", token="privacy-token"))[0] == 200
        side.reveals._reveals.clear()  # as a restart does
        assert (await _reveal(side, "admin", callback_id, **given))[0] == 429  # counted from the audit
        side.clock.at += 3000
        assert (await _reveal(side, "admin", callback_id, **given))[0] == 200
        assert [each["action"] for each in side.records].count("payload.reveal") == 4


async def test_reveals_are_counted_over_all_hosts() -> None:
    """What a user had revealed by another host of the store counts here too, before this host saw one and after it."""
    async with admin_side(users=USERS, reveals=Rate(2, 3600.0)) as side:
        (callback_id,) = await side.accept()
        given = {"reason": "ticket", "token": "admin-token"}
        elsewhere = RevealLimit(
            journal=side.store.journal, clock=side.clock, wall=side.clock.now, rate=lambda: Rate(2, 3600.0)
        )
        assert await elsewhere.left_s("admin") is None
        assert (await _reveal(side, "admin", callback_id, **given))[0] == 200
        side.clock.at += 600
        assert await elsewhere.left_s("admin") is None
        assert (await _reveal(side, "admin", callback_id, **given))[0] == 200

        assert await elsewhere.left_s("admin") == pytest.approx(3000, abs=0.1)
        side.clock.at += 3000.5
        assert await elsewhere.left_s("admin") is None


async def test_guesses_of_the_second_proof_end() -> None:
    """Ten wrong tokens within a minute, and none is looked at any more."""
    async with admin_side(users=USERS) as side:
        (callback_id,) = await side.accept()
        for _ in range(10):
            assert (await _reveal(side, "admin", callback_id, reason="x", token="guess"))[0] == 403
        assert (await _reveal(side, "admin", callback_id, reason="x", token="admin-token"))[0] == 429


async def test_a_filter_shows_no_number_of_an_answer(side: AdminSide) -> None:
    """A reason that was typed in to act on a group: in the audit and in the operation its numbers are masked."""
    body = {"action": "retry", "filter": {"platform": "shop-a", "reason": "no 13812345678", "key": "13812345678"}}
    status, text = await _ask(side, "operator", "POST", "/v1/operations", {**body, "expect_count": 0})
    assert (status, json.loads(text)["filter"]["reason"]) == (202, "no 138****5678")
    assert side.records[-1]["details"]["filter"] == {
        "platform": "shop-a", "reason": "no 138****5678", "key": "138****5678",
    }  # fmt: skip


async def test_who_posts_sees_no_value_either(side: AdminSide) -> None:
    """The ingest listener tells what became of a callback, without what the platform repeated of it."""
    found = await side.api.describe((await _ids(side))[0])
    assert found is not None
    assert found.attempts[0].excerpt.startswith("no such receivers")
    assert [canary for canary in CANARIES if canary in str(plain(found))] == []
