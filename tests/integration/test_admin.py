"""The admin API over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from admin_side import LEARNED, START, USERS, AdminSide, admin_side
from relay.core.errors import StoreAway
from relay.core.model import Rate
from relay.views.configuration import InForce
from relay.views.moments import instant_text


class Caller:
    """Calls an admin side as one user."""

    def __init__(self, session: aiohttp.ClientSession, side: AdminSide) -> None:
        self.session = session
        self.side = side

    async def __call__(
        self, method: str, path: str, *, json: Any = None, role: str | None = None, data: Any = None
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {role}-token"} if role else {}
        async with self.session.request(
            method, self.side.url + path, json=json, data=data, headers=headers
        ) as response:
            is_json = response.content_type.endswith("json")
            return response.status, await (response.json() if is_json else response.text())


@pytest.fixture
async def call() -> AsyncIterator[Caller]:
    """A caller of an admin side without users."""
    async with admin_side() as side, aiohttp.ClientSession() as session:
        yield Caller(session, side)


async def test_the_ledger_accounts_for_every_callback(call: Caller) -> None:
    """Totals per platform and over all add up, and nothing is unaccounted."""
    ids = await call.side.accept(5)
    await call.side.accept(2, platform="shop-b")
    await call.side.bury(ids[:1])

    status, ledger = await call("GET", "/v1/ledger")

    assert status == 200
    zero = {"delivered": 0, "expired": 0, "superseded": 0, "unaccounted": 0}
    assert ledger["total"] == {"accepted": 7, "dead": 1, "pending": 6, **zero}
    assert ledger["platforms"]["shop-a"] == {"accepted": 5, "dead": 1, "pending": 4, **zero}


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        ({"paused": True, "pause_reason": "sale", "broken": True, "throttled_until": START + 9}, "paused", "sale"),
        ({"broken": True, "breaker_reason": "5 in a row", "throttled_until": START + 9}, "broken", "5 in a row"),
        ({"throttled_until": START + 9, "throttle_reason": "429", "limited_until": START + 5}, "throttled", "429"),
        ({"limited_until": START + 5}, "limited", "waiting for a slot"),
        ({"throttled_until": START - 1, "limited_until": None}, "ok", ""),
    ],
)
async def test_a_platform_shows_the_state_that_explains_most(
    call: Caller, facts: dict[str, Any], state: str, reason: str
) -> None:
    """paused before broken before throttled before limited before ok; times past say nothing."""
    call.side.control.facts["shop-a"] = facts

    _, view = await call("GET", "/v1/platforms/shop-a")

    assert (view["state"], view["reason"]) == (state, reason)


async def test_a_platform_shows_its_stopped_groups(call: Caller) -> None:
    """How many groups are stopped on their own, and those stopped longest with reason and time; it stays ``ok``."""
    stops = [{"group": f"shop{n}", "reason": "429 Too Many Requests", "until": START + n} for n in range(1, 41)]
    call.side.control.facts["shop-a"] = {"stopped_groups": stops}

    _, view = await call("GET", "/v1/platforms/shop-a")
    _, other = await call("GET", "/v1/platforms/shop-b")

    assert view["state"] == "ok"
    assert view["stopped_groups"]["count"] == 40
    assert [group["group"] for group in view["stopped_groups"]["items"]] == [f"shop{n}" for n in range(40, 30, -1)]
    assert view["stopped_groups"]["items"][0] == {
        "group": "shop40", "reason": "429 Too Many Requests", "since": None, "until": "2026-09-21T14:14:00.000Z",
    }  # fmt: skip
    assert other["stopped_groups"] == {"count": 0, "items": []}


async def test_a_platform_shows_its_queue_and_quota(call: Caller) -> None:
    """Pending, age of the oldest, quota windows and the drain time; times as UTC, durations as seconds."""
    await call.side.accept(2500)
    call.side.clock.at += 7.5
    call.side.control.facts["shop-a"] = {"throttled_until": START + 10.1234}

    _, listed = await call("GET", "/v1/platforms")
    view = listed["items"][0]

    assert [each["name"] for each in listed["items"]] == ["shop-a", "shop-b"]
    assert view["pending"] == 2500
    assert view["oldest_due_seconds"] == 7.5
    assert view["until"] == "2026-09-21T14:13:30.123Z"
    assert {key: view["quotas"][0][key] for key in ("quota", "window_s", "limit", "used")} == {
        "quota": "shop-a",
        "window_s": 60.0,
        "limit": 100,
        "used": 0,
    }
    assert view["drain_eta_seconds"] == 92.6  # 2.6 s stopped; 250 batches of 10: 100 at once, 150 at 100 a minute
    assert listed["items"][1]["drain_eta_seconds"] == 0.0
    assert [each["expires_seconds"] for each in listed["items"]] == [86400.0, None]


async def test_an_unknown_platform_is_named_with_what_was_meant(call: Caller) -> None:
    """404 unknown_platform with a suggestion, for paths and filters alike."""
    for method, path in [
        ("GET", "/v1/platforms/shop-c"),
        ("POST", "/v1/platforms/shop-c/pause"),
        ("GET", "/v1/callbacks?platform=shop-c"),
    ]:
        status, problem = await call(method, path)

        assert (status, problem["code"]) == (404, "unknown_platform")
        assert "did you mean 'shop-" in problem["detail"]


async def test_a_pause_for_a_time_says_until_when(call: Caller) -> None:
    """The answer and the audit record have the end; a time that is none is refused by name and pauses nothing."""
    status, view = await call("POST", "/v1/platforms/shop-a/pause", json={"for": "30m"})
    path = "/v1/platforms/shop-a/pause"
    wrong = [await call("POST", path, json={"for": given}) for given in ("soon", "0s", "31d")]

    assert (status, view["state"]) == (200, "paused")
    assert call.side.control.asked == [("pause", "shop-a", "", START + 1800)]
    assert view["until"] is not None
    assert call.side.records[0]["details"]["until"] == view["until"]
    assert {(status, problem["code"], problem["key"]) for status, problem in wrong} == {(400, "invalid_request", "for")}


async def test_pause_resume_and_flush_reach_delivery_and_are_audited(call: Caller) -> None:
    """Each answers the platform's new view, and who, from where and why is on record."""
    status, view = await call("POST", "/v1/platforms/shop-a/pause", json={"reason": "stocktaking"})
    await call("POST", "/v1/platforms/shop-a/flush")
    call.side.control.backing_off = 7
    _, resumed = await call("POST", "/v1/platforms/shop-a/resume")

    assert (status, view["state"], view["reason"], resumed["state"]) == (200, "paused", "stocktaking", "ok")
    assert (set(resumed) - set(view), resumed["brought_forward"]) == ({"brought_forward"}, 7)
    assert call.side.control.asked == [("pause", "shop-a", "stocktaking"), ("flush", "shop-a"), ("resume", "shop-a")]
    records = call.side.records
    assert [each["action"] for each in records] == ["platform.pause", "platform.flush", "platform.resume"]
    assert {key: records[0][key] for key in ("who", "from", "target", "reason", "at")} == {
        "who": "local",
        "from": "127.0.0.1",
        "target": "shop-a",
        "reason": "stocktaking",
        "at": instant_text(START),
    }


async def test_orders_about_one_group_reach_delivery_and_are_audited(call: Caller) -> None:
    """Pause, resume, flush and limit, each with the group on record; a platform without groups says so."""
    path = "/v1/platforms/shop-a"
    group = {"group": "17"}
    for order, body in (
        ("pause", {"for": "30m", "reason": "moving", **group}),
        ("resume", group),
        ("flush", group),
        ("limit", {"rate": "3/min", "for": "30m", **group}),
        ("limit", {"forget": True, **group}),
    ):
        status, view = await call("POST", f"{path}/{order}", json=body)
        assert (status, view["state"]) == (200, "ok"), order
    assert call.side.control.asked == [
        ("pause_group", "shop-a", "17", "moving", START + 1800),
        ("resume_group", "shop-a", "17"),
        ("flush", "shop-a", "17"),
        ("limit_group", "shop-a", "17", "3/min", str(START + 1800), ""),
        ("limit_group", "shop-a", "17", "None", ""),
    ]
    assert [each["details"]["group"] for each in call.side.records] == ["17"] * 5
    assert call.side.records[3]["details"] == {**group, "rate": ["3/min"], "until": "2026-09-21T14:43:20.000Z"}
    for order, body, key in (
        ("pause", {"group": 17}, "group"),
        ("pause", {"group": "17", "key": "991"}, "key"),
        ("flush", {"key": "991"}, "key"),
        ("limit", {"rate": "3/min", "group": 17}, "group"),
    ):
        status, problem = await call("POST", f"{path}/{order}", json=body)
        assert (status, problem["code"], problem["key"]) == (400, "invalid_request", key)
    status, problem = await call("POST", "/v1/platforms/shop-b/pause", json=group)
    assert (status, problem["code"]) == (400, "invalid_request")
    assert "no groups" in problem["detail"]


async def test_one_order_is_held_and_released(call: Caller) -> None:
    """Its callbacks say so and why; the others of the platform go on; the key is masked in the audit."""
    (accepted,) = await call.side.accept(key="order-991")
    path, key = "/v1/platforms/shop-a", {"key": "order-991"}
    status, view = await call("POST", f"{path}/pause", json={**key, "reason": "the customer called"})
    assert (status, view["state"], view["keys_held"]) == (200, "ok", 1)
    _, shown = await call("GET", f"/v1/callbacks/{accepted}")
    assert shown["key_held"] == "the customer called"
    assert (shown["waiting"]["for"], shown["waiting"]["reason"]) == ("key paused", "the customer called")
    status, problem = await call("POST", f"{path}/pause", json={**key, "for": "1h"})
    assert (status, problem["key"]) == (400, "for")
    status, view = await call("POST", f"{path}/resume", json=key)
    assert (status, view["keys_held"]) == (200, 0)
    assert [each["action"] for each in call.side.records] == ["platform.pause", "platform.resume"]
    assert "991" not in str(call.side.records)
    assert call.side.control.asked == []


async def test_a_limit_is_set_for_a_while_and_audited(call: Caller) -> None:
    """The rates reach delivery with the time they end and the reason; the answer is the platform's new view."""
    body = {"rate": ["1000/day", "80/min"], "for": "2h", "reason": "their support said so"}
    status, view = await call("POST", "/v1/platforms/shop-a/limit", json=body)
    await call("POST", "/v1/platforms/shop-a/limit", json={"rate": "50/min"})

    assert (status, view["learned_limit"]["source"]) == (200, "operator")
    assert view["learned_limit"]["until"] == "2026-09-21T16:13:20.000Z"
    assert call.side.control.asked == [
        ("limit", "shop-a", "80/min", "1000/day", str(START + 7200), "their support said so"),
        ("limit", "shop-a", "50/min", "None", ""),
    ]
    record = call.side.records[0]
    assert {key: record[key] for key in ("who", "action", "target", "reason")} == {
        "who": "local",
        "action": "platform.limit",
        "target": "shop-a",
        "reason": "their support said so",
    }
    assert record["details"] == {"rate": ["80/min", "1000/day"], "until": "2026-09-21T16:13:20.000Z"}


async def test_a_limit_is_forgotten_and_audited(call: Caller) -> None:
    """Nothing is left of it in the view, and why it went is on record."""
    status, view = await call("POST", "/v1/platforms/shop-a/limit", json={"forget": True, "reason": "new contract"})

    assert (status, view["learned_limit"]["source"], view["learned_limit"]["rates"]) == (200, "none", [])
    assert call.side.control.asked == [("forget_limit", "shop-a")]
    record = call.side.records[0]
    assert (record["action"], record["reason"]) == ("platform.forget_limit", "new contract")


@pytest.mark.parametrize(
    ("body", "key", "hint"),
    [
        ({}, "rate", "'rate' is missing"),
        ({"forget": False}, "rate", "'rate' is missing"),
        ({"for": "2h"}, "rate", "'rate' is missing"),
        ({"rate": "80/minute"}, "rate", "did you mean 80/min?"),
        ({"rate": 80}, "rate", "write 80/s or 80/min"),
        ({"rate": "80"}, "rate", "write 80/s or 80/min"),
        ({"rate": "0/min"}, "rate", "relay pause"),
        ({"rate": []}, "rate", "'rate' is empty"),
        ({"rate": ["1/s", "2/min", "3/h", "4/day", "5/90s"]}, "rate", "1 to 4 limits, not 5"),
        ({"rate": ["80/min", "70/60s"]}, "rate", "80/min and 70/min are limits over the same window"),
        ({"rate": {"limit": 80}}, "rate", 'a string such as "80/min", or a list of up to 4'),
        ({"rate": ["80/min", ["1/s"]]}, "rate", 'a string such as "80/min", or a list of up to 4'),
        ({"rate": "80/min", "for": "2"}, "for", "has no unit"),
        ({"rate": "80/min", "for": 7200}, "for", "write 7200s or 7200m"),
        ({"rate": "80/min", "for": "0s"}, "for", "above 0"),
        ({"rate": "80/min", "for": "31d"}, "for", "longer than 30d"),
        ({"rate": "80/min", "forget": True}, "rate", "'rate' and 'forget' contradict each other"),
        ({"for": "2h", "forget": True}, "for", "'for' and 'forget' contradict each other"),
        ({"forget": "yes"}, "forget", "true or false"),
        ({"rate": "80/min", "reason": 7}, "reason", "must be a string"),
    ],
)
async def test_a_bad_limit_says_what_is_wrong(call: Caller, body: Any, key: str, hint: str) -> None:
    """400 naming the key, why and what to write; nothing reaches delivery or the audit log."""
    status, problem = await call("POST", "/v1/platforms/shop-a/limit", json=body)

    assert (status, problem["code"], problem["key"]) == (400, "invalid_request", key)
    assert hint in problem["detail"]
    assert (call.side.control.asked, call.side.records) == ([], [])


async def test_a_limit_needs_a_platform_and_a_body_that_means_something(call: Caller) -> None:
    """Typing errors in name or key, no JSON, and a platform that went away meanwhile."""
    typo = await call("POST", "/v1/platforms/shop-c/limit", json={"rate": "80/min"})
    key = await call("POST", "/v1/platforms/shop-a/limit", json={"rates": "80/min"})
    text = await call("POST", "/v1/platforms/shop-a/limit", data=b"80/min")
    call.side.control.gone = True
    gone = await call("POST", "/v1/platforms/shop-a/limit", json={"rate": "80/min"})

    assert (typo[0], typo[1]["code"], "did you mean 'shop-" in typo[1]["detail"]) == (404, "unknown_platform", True)
    assert (key[0], "did you mean 'rate'" in key[1]["detail"]) == (400, True)
    assert (text[0], text[1]["code"]) == (400, "invalid_json")
    assert (gone[0], gone[1]["code"]) == (404, "unknown_platform")


@pytest.mark.parametrize("deed", ["pause", "resume", "flush"])
async def test_a_platform_that_a_reload_took_away_meanwhile_is_unknown(call: Caller, deed: str) -> None:
    """404 between the look and the deed, as before it."""
    call.side.control.gone = True
    status, problem = await call("POST", f"/v1/platforms/shop-a/{deed}", json={})
    assert (status, problem["code"]) == (404, "unknown_platform")
    assert [asked[0] for asked in call.side.control.asked] == [deed]


async def test_a_learned_limit_is_shown_with_its_evidence(call: Caller) -> None:
    """Where each window comes from, and what is believed why since when; nothing is said where none is looked for."""
    call.side.control.facts["shop-a"] = {"learned_limit": LEARNED}
    await call.side.limited("learned:shop-a", Rate(3, 60.0))
    await call.side.accept(5)
    await call.side.sent(3)

    _, view = await call("GET", "/v1/platforms/shop-a")
    _, other = await call("GET", "/v1/platforms/shop-b")

    assert [(each["quota"], each["source"], each["limit"]) for each in view["quotas"]] == [
        ("shop-a", "configured", 100),
        ("learned:shop-a", "learned", 3),
    ]
    assert (view["state"], view["reason"]) == ("limited", "3 of 3 requests in 60s used (learned)")
    assert view["learned_limit"] == {
        **LEARNED,
        "since": "2026-09-21T14:01:20.000Z",
        "evidence": {**LEARNED["evidence"], "next_try_at": "2026-09-21T14:33:20.000Z"},
    }
    assert other["learned_limit"] is None


async def test_metrics_tell_written_limits_from_others(call: Caller) -> None:
    """What no configuration holds is of the kind learned, whoever says so; used is of the tighter one."""
    await call.side.limited("operator:shop-a", Rate(3, 60.0))
    await call.side.accept(5)
    await call.side.sent(2)

    _, text = await call("GET", "/metrics")

    assert 'relay_rate_limit{kind="configured",platform="shop-a",window="60s"} 100.0' in text
    assert 'relay_rate_limit{kind="learned",platform="shop-a",window="60s"} 3.0' in text
    assert 'relay_rate_used{platform="shop-a",window="60s"} 2.0' in text


async def test_metrics_tell_when_callbacks_expire(call: Caller) -> None:
    """`expires` of each platform is a metric: an alert compares with it how late the platform is."""
    _, text = await call("GET", "/metrics")

    assert 'relay_expires_seconds{platform="shop-a"} 86400.0' in text


async def test_how_far_an_objective_is_kept(call: Caller) -> None:
    """The platform says it over an hour and a day, with what is left of what may be late; a metric says it too."""
    await call.side.accept(3)
    await call.side.reject()
    await call.side.sampling.tick(0)

    _, found = await call("GET", "/v1/platforms/shop-a")
    _, text = await call("GET", "/metrics")

    assert found["objective"] == {
        "within_seconds": 90, "share": 0.99, "ratio_1h": 0, "ratio_24h": 0, "remaining_1h": 0, "remaining_24h": 0,
        "burns": 100, "overdue": 0,
    }  # fmt: skip
    assert 'relay_objective_ratio{platform="shop-a"} 0.0' in text
    assert 'relay_objective_target_ratio{platform="shop-a"} 0.99' in text
    _, other = await call("GET", "/v1/platforms/shop-b")
    assert other["objective"] is None


async def test_a_callback_names_the_limit_it_waits_for(call: Caller) -> None:
    """Which limit, from where, how sure that is, and when its next slot is free."""
    call.side.control.facts["shop-a"] = {"learned_limit": LEARNED, "waits_for": "limit", "waits_until": START + 60}
    await call.side.limited("learned:shop-a", Rate(3, 60.0))
    await call.side.accept(3)
    await call.side.sent(3)
    (callback_id,) = await call.side.accept()

    _, found = await call("GET", f"/v1/callbacks/{callback_id}")

    assert found["waiting"]["limit"] == {
        "rate": "3/min", "source": "learned", "quota": "learned:shop-a", "used": 3, "confidence": 0.86, "tried": False,
    }  # fmt: skip


async def test_a_callback_names_the_one_it_is_behind(call: Caller) -> None:
    """The oldest pending one of its key, with what that one waits for; others' keys and later ones do not matter."""
    first, *_ = await call.side.accept(2, key="A-1")
    await call.side.accept(1, key="A-2")
    (callback_id,) = await call.side.accept(1, key="A-1")
    await call.side.accept(1, key="A-1")
    call.side.control.facts["shop-a"] = {"throttled_until": START + 9, "throttle_reason": "429"}

    _, found = await call("GET", f"/v1/callbacks/{callback_id}")
    _, head = await call("GET", f"/v1/callbacks/{first}")

    throttled = {"for": "throttled", "until": "2026-09-21T14:13:29.000Z", "reason": "429"}
    assert found["waiting"] == {
        "for": "earlier callback of its key",
        "until": None,
        "behind": {"id": first, "state": "pending", "reason": "", "waiting": throttled},
    }
    assert head["waiting"] == throttled


@pytest.mark.parametrize(
    ("on_dead", "dropped", "waits"),
    [
        ("block", False, "earlier callback of its key"),
        ("block", True, "slot"),
        ("skip", False, "slot"),
    ],
)
async def test_a_dead_callback_holds_up_its_key_where_it_should(
    call: Caller, on_dead: str, dropped: bool, waits: str
) -> None:
    """With on_dead: block a person must act, and is told on which one; else, or once it is dropped, the key goes on."""
    settings = {"platforms": {"shop-a": {"on_dead": on_dead}}}
    call.side.config.effective = InForce(file="config.yaml", config=settings, origins={})
    dead, callback_id = await call.side.accept(2, key="A-1")
    await call.side.reject()
    if dropped:
        await call.side.bury([dead])

    _, found = await call("GET", f"/v1/callbacks/{callback_id}")

    assert found["waiting"]["for"] == waits
    if waits != "slot":
        assert found["waiting"]["behind"] == {"id": dead, "state": "dead", "reason": "rejected"}


async def test_lists_come_in_pages_without_gaps_or_repeats(call: Caller) -> None:
    """Following `next` shows every callback once, newest first."""
    ids = await call.side.accept(7)
    seen: list[str] = []
    query = "?limit=3"
    while True:
        _, found = await call("GET", f"/v1/callbacks{query}")
        seen += [item["id"] for item in found["items"]]
        if found["next"] is None:
            break
        query = f"?limit=3&cursor={found['next']}"

    assert seen == ids[::-1]


async def test_filters_narrow_a_list(call: Caller) -> None:
    """By key, state and time; relative times count back from now."""
    old = await call.side.accept(1, key="A-1")
    call.side.clock.at += 7200
    new = await call.side.accept(2, key="A-2")
    await call.side.bury(new[:1])

    async def listed(path: str) -> list[str]:
        status, found = await call("GET", path)
        assert status == 200, found
        return [item["id"] for item in found["items"]]

    assert await listed("/v1/callbacks?key=A-1") == old
    assert await listed("/v1/callbacks?since=1h&state=pending") == new[1:]
    assert await listed("/v1/callbacks?until=2026-09-21T14:30:00Z") == old
    assert await listed("/v1/callbacks?until=2026-09-21T22:30:00+08:00") == old
    assert await listed(f"/v1/callbacks?ids={old[0]},{new[1]}") == [new[1], *old]
    assert await listed("/v1/dead-letters") == new[:1]


def _instants(value: Any) -> list[float]:
    """Return every time in an answer, in its order."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [at for each in inner for at in _instants(each)]
    if not isinstance(value, str) or not value.endswith("Z") or value[4:5] != "-":
        return []
    return [datetime.fromisoformat(value).timestamp()]


async def test_a_clock_set_after_the_start(call: Caller) -> None:
    """Eight hours forward: every time of every answer is the wall clock's, and a filter's is read by it too."""
    dead, pending = await call.side.accept(2, key="A-1")
    await call.side.sent(1)
    await call.side.bury([pending])
    call.side.control.facts["shop-a"] = {
        "throttled_until": START + 60,
        "learned_limit": LEARNED,
        "stopped_groups": [{"group": "s", "reason": "", "until": START + 60}],
    }
    _, started = await call("POST", "/v1/operations", json={"action": "retry", "filter": {"ids": [pending]}})
    paths = [
        *("/v1/platforms", "/v1/platforms/shop-a", "/v1/callbacks", f"/v1/callbacks/{dead}", "/v1/dead-letters"),
        *(f"/v1/callbacks/{pending}?payload=1", "/v1/operations", f"/v1/operations/{started['id']}"),
    ]

    before = [_instants((await call("GET", path))[1]) for path in paths]
    call.side.control.wall_ahead_s = 8 * 3600.0
    after = [_instants((await call("GET", path))[1]) for path in paths]

    assert all(times for path, times in zip(paths, before, strict=True) if path != "/v1/dead-letters")
    assert after == [[at + 8 * 3600 for at in times] for times in before]
    accepted_at = after[2][0]
    for since_s, found in ((-1, 2), (1, 0)):
        text = datetime.fromtimestamp(accepted_at + since_s, UTC).isoformat().replace("+00:00", "Z")
        _, page = await call("GET", f"/v1/callbacks?since={text}")
        assert len(page["items"]) == found
    assert len((await call("GET", "/v1/callbacks?since=1m"))[1]["items"]) == 2


@pytest.mark.parametrize(
    ("query", "code", "hint"),
    [
        ("?platfrom=shop-a", "invalid_filter", "did you mean 'platform'"),
        ("?state=ded", "invalid_filter", "did you mean 'dead'"),
        ("?since=yesterday", "invalid_filter", "'since'"),
        ("?since=9999999d", "invalid_filter", "'since'"),
        ("?limit=0", "invalid_filter", "limit"),
        ("?limit=1001", "invalid_filter", "limit"),
        ("?cursor=nonsense", "invalid_cursor", "cursor"),
    ],
)
async def test_a_bad_filter_names_its_key(call: Caller, query: str, code: str, hint: str) -> None:
    """400 with the key and what was meant."""
    status, problem = await call("GET", f"/v1/callbacks{query}")

    assert (status, problem["code"]) == (400, code)
    assert hint in problem["detail"]


async def test_what_lies_in_a_spool_is_told_without_the_store(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host found the callback itself; that its store is away is what it waits for, no reason to tell nothing."""

    async def away() -> Any:
        raise StoreAway("the store cannot be reached", sent=False)

    (callback_id,) = await call.side.accept()
    monkeypatch.setattr(call.side.store, "platform_status", away)
    status, found = await call("GET", f"/v1/callbacks/{callback_id}")

    assert (status, found["state"]) == (200, "pending")
    assert found["waiting"] == {"for": "store", "until": None, "reason": "the store cannot be reached"}


async def test_one_callback_tells_why_it_waits(call: Caller) -> None:
    """Its times, attempts, and the reason it is not sent, with the time where there is one."""
    (callback_id,) = await call.side.accept()
    _, first = await call("GET", f"/v1/callbacks/{callback_id}")
    call.side.control.facts["shop-a"] = {"broken": True, "probe_at": START + 18}
    _, second = await call("GET", f"/v1/callbacks/{callback_id}")
    call.side.control.facts["shop-a"] |= {"breaker_open": True}
    _, probed = await call("GET", f"/v1/callbacks/{callback_id}")
    call.side.control.facts["shop-a"] = {"waits_for": "pace", "waits_until": START + 0.6}
    _, third = await call("GET", f"/v1/callbacks/{callback_id}")

    assert first["accepted_at"] == "2026-09-21T14:13:20.000Z"
    assert first["attempts"] == []
    assert first["waiting"] == {"for": "slot", "until": None}
    assert second["waiting"] == {"for": "backoff", "until": "2026-09-21T14:13:38.000Z"}
    assert probed["waiting"] == {"for": "breaker", "until": "2026-09-21T14:13:38.000Z"}
    assert third["waiting"] == {
        "for": "pace",
        "until": "2026-09-21T14:13:20.600Z",
        "limit": {
            "rate": "100/min",
            "source": "configured",
            "quota": "shop-a",
            "used": 0,
            "confidence": None,
            "tried": False,
        },
    }
    call.side.control.facts["shop-a"] = {"stopped_groups": [{"group": "", "reason": "429", "until": START + 5}]}
    _, fourth = await call("GET", f"/v1/callbacks/{callback_id}")
    assert fourth["waiting"] == {
        "for": "throttled", "until": "2026-09-21T14:13:25.000Z", "reason": "429",
    }  # fmt: skip
    assert "payload" not in first
    status, problem = await call("GET", "/v1/callbacks/NOSUCHID")
    assert (status, problem["code"]) == (404, "unknown_callback")


async def test_each_look_at_a_payload_is_on_record() -> None:
    """A viewer sees the structure, and so does privacy; both looks are on record by name."""
    async with admin_side(users=USERS) as side, aiohttp.ClientSession() as session:
        call = Caller(session, side)
        (callback_id,) = await side.accept()
        for role in ("viewer", "privacy"):
            _, masked = await call("GET", f"/v1/callbacks/{callback_id}?payload=1", role=role)
            assert masked["payload"] == {"order_id": "A***", "phone": "138****5678"}
        told = [(each["who"], each["action"], each["target"]) for each in side.records]
        assert told == [(role, "payload.view", callback_id) for role in ("viewer", "privacy")]


async def test_without_users_payloads_stay_masked(call: Caller) -> None:
    """Being on the machine is no licence to read customers' data."""
    (callback_id,) = await call.side.accept()

    _, found = await call("GET", f"/v1/callbacks/{callback_id}?payload=1")

    assert found["payload_form"] == "masked"


async def test_an_operation_runs_over_all_matches(call: Caller) -> None:
    """202 with its place, then progress to the end; what was skipped is counted by reason."""
    ids = await call.side.accept(1200, key=None)
    await call.side.bury(ids)
    running = asyncio.create_task(call.side.operations.run())

    counted = await call("POST", "/v1/operations", json=_retry(dry_run=True))
    status, started = await call("POST", "/v1/operations", json=_retry(expect_count=1200, reason="shop is back"))
    while (found := (await call("GET", f"/v1/operations/{started['id']}"))[1])["finished_at"] is None:
        await asyncio.sleep(0.01)
    running.cancel()

    assert counted == (200, {"action": "retry", "dry_run": True, "matched": 1200})
    assert (status, started["matched"], started["options"]["reason"]) == (202, 1200, "shop is back")
    assert (found["done"], found["skipped"]) == (1200, {})
    assert (await call("GET", "/v1/ledger"))[1]["total"]["pending"] == 1200
    assert [each["action"] for each in call.side.records] == ["operation.retry"]


async def test_a_count_that_no_longer_fits_does_nothing(call: Caller) -> None:
    """409 count_mismatch with both numbers, and no operation exists."""
    await call.side.bury(await call.side.accept(2))

    status, problem = await call("POST", "/v1/operations", json=_retry(expect_count=5))

    assert (status, problem["code"], problem["expected"], problem["found"]) == (409, "count_mismatch", 5, 2)
    assert (await call("GET", "/v1/operations?action=retry"))[1]["items"] == []
    assert (await call("GET", "/v1/operations/99"))[1]["code"] == "unknown_operation"


@pytest.mark.parametrize(
    ("body", "code", "hint"),
    [
        ({"action": "rety"}, "invalid_request", "did you mean 'retry'"),
        ({}, "invalid_request", "'action' is missing"),
        ({"action": "retry", "filter": {"stat": "dead"}}, "invalid_filter", "did you mean 'state'"),
        ({"action": "retry", "filter": {"key": 7}}, "invalid_filter", "'key' must be a string"),
        ({"action": "retry", "filter": {"ids": []}}, "invalid_filter", "ids"),
        ({"action": "retry", "filters": {}}, "invalid_request", "did you mean 'filter'"),
        ({"action": "retry", "filter": {}}, "invalid_request", "expect_count"),
        ({"action": "retry", "rate": "50/minute"}, "invalid_request", "did you mean 50/min"),
        ({"action": "retry", "rate": 50}, "invalid_request", "'rate'"),
        ({"action": "resolve", "filter": {"key": "A"}}, "invalid_request", "'as' is missing"),
        ({"action": "drop", "expect_count": True}, "invalid_request", "expect_count"),
        ([], "invalid_request", "object"),
    ],
)
async def test_a_bad_operation_says_what_is_wrong(call: Caller, body: Any, code: str, hint: str) -> None:
    """400 naming the key; nothing is started."""
    status, problem = await call("POST", "/v1/operations", json=body)

    assert (status, problem["code"]) == (400, code)
    assert hint in problem["detail"]
    assert call.side.records == []


@pytest.mark.parametrize("reason", ["x" * 501, 7, False])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((f"/v1/platforms/shop-a/{deed}", {}) for deed in ("pause", "resume", "flush")),
        ("/v1/platforms/shop-a/limit", {"rate": "80/min"}),
        ("/v1/operations", {"action": "retry", "filter": {"state": "dead"}}),
        ("/v1/config/reload", {}),
    ],
)
async def test_a_reason_is_a_text_that_fits_a_line(call: Caller, path: str, body: dict[str, Any], reason: Any) -> None:
    """It is shown to others and kept; what is no text or too long is refused by name before anything is done."""
    status, problem = await call("POST", path, json={**body, "reason": reason})
    kept, _ = await call("POST", path, json={**body, "reason": "x" * 500})

    assert (status, problem["code"], problem["key"]) == (400, "invalid_request", "reason")
    assert kept in (200, 202)
    assert [len(each["reason"]) for each in call.side.records] == [500]


async def test_the_configuration_is_validated_and_reloaded(call: Caller) -> None:
    """Problems are listed at once; a reload with problems changes nothing and says so with 422."""
    assert (await call("GET", "/v1/config"))[1] == {
        "file": "config.yaml",
        "config": {"version": 1},
        "origins": {},
        "reloads": [],
        "refused_reload": None,
    }
    assert (await call("POST", "/v1/config/validate", data=b"version: 1"))[1] == {"valid": True, "problems": []}
    assert (await call("POST", "/v1/config/validate", data=b"version: 2"))[1]["valid"] is False
    assert (await call("POST", "/v1/config/reload", json={"dry_run": True}))[1]["applied"] is False
    assert (await call("POST", "/v1/config/reload"))[1]["applied"] is True
    call.side.config.problems = ["config.yaml:3:1: E010 unknown key"]

    status, problem = await call("POST", "/v1/config/reload")

    assert (status, problem["code"], problem["problems"]) == (422, "invalid_config", call.side.config.problems)
    assert [each["action"] for each in call.side.records] == ["config.reload", "config.reload"]


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"force": "false"}, "'force' must be true or false"),
        ({"dry_run": "false"}, "'dry_run' must be true or false"),
        ({"dry_run": 1}, "'dry_run' must be true or false"),
        ({"force": None}, "'force' is null: leave the key out, or give it a value"),
        ({"reason": 3}, "'reason' must be a string"),
        ({"reason": 3, "dry_run": True}, "'reason' must be a string"),
    ],
)
async def test_a_reload_takes_nothing_for_something_else(call: Caller, body: Any, hint: str) -> None:
    """400 naming the key; nothing is loaded and nothing recorded."""
    status, problem = await call("POST", "/v1/config/reload", json=body)

    assert (status, problem["code"], problem["detail"]) == (400, "invalid_request", hint)
    assert (call.side.config.reloads, call.side.records) == ([], [])


async def test_a_daemon_that_cannot_reload_says_so() -> None:
    """501 not_supported instead of a reload that does nothing."""
    async with admin_side(reloads=False) as side, aiohttp.ClientSession() as session:
        status, problem = await Caller(session, side)("POST", "/v1/config/reload")

        assert (status, problem["code"]) == (501, "not_supported")


async def test_probes_and_the_index_need_no_token() -> None:
    """Health checkers and browsers see that it lives, and nothing else."""
    async with admin_side(users=USERS) as side, aiohttp.ClientSession() as session:
        call = Caller(session, side)
        assert (await call("GET", "/livez"))[0] == 200
        assert (await call("GET", "/readyz"))[0] == 200
        status, text = await call("GET", "/")
        assert status == 200
        assert "<main" in text


async def test_metrics_show_what_the_store_holds(call: Caller) -> None:
    """A scrape reads the store when it is asked."""
    await call.side.accept(3)

    _, text = await call("GET", "/metrics")

    assert 'relay_pending{platform="shop-a"} 3.0' in text


async def test_openapi_tells_every_route(call: Caller) -> None:
    """The document and the router agree in both directions."""
    _, document = await call("GET", "/openapi.json")

    told = {"admin": set(), "ingest": set()}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for listener in operation["tags"]:
                told[listener].add((method.upper(), path))
    probes = {("GET", "/livez"), ("GET", "/readyz")}
    login = {("POST", "/v1/session"), ("DELETE", "/v1/session")}
    assert told["admin"] == {(each.method, each.path) for each in call.side.api.endpoints} | probes | login
    assert told["ingest"] == probes | {
        ("POST", "/v1/platforms/{platform}/callbacks"),
        ("POST", "/v1/callbacks"),
        ("GET", "/v1/callbacks/{id}"),
        ("DELETE", "/v1/callbacks/{id}"),
        ("DELETE", "/v1/platforms/{platform}/callbacks"),
        ("POST", "/v1/quotas/{quota}/take"),
        ("POST", "/v1/quotas/{quota}/release"),
        ("POST", "/v1/quotas/{quota}/report"),
        ("GET", "/openapi.json"),
    }
    for method, path in told["admin"]:
        asked = call.side.url + path.replace("{platform}", "shop-a").replace("{id}", "1")
        async with call.session.request(method, asked) as response:  # its status alone: events go on for ever
            assert response.status not in (405, 500), path


async def test_openapi_has_a_schema_for_every_answer(call: Caller) -> None:
    """But the events and the metrics, which are text, a platform's own words, and the document itself."""
    untold = [each.path for each in call.side.api.endpoints if each.shows is None and each.starts is None]
    assert untold == ["/v1/reconciliations/questions", "/v1/events", "/metrics", "/openapi.json"]


async def test_openapi_tells_the_keys_of_answers(call: Caller) -> None:
    """Each key that an answer has stands in the schema of its route, with what it means."""
    await call.side.accept(1)
    _, document = await call("GET", "/openapi.json")
    schemas = document["components"]["schemas"]

    for path, asked in (("/v1/ledger", "/v1/ledger"), ("/v1/platforms/{platform}", "/v1/platforms/shop-a")):
        answered = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        members = schemas[answered.rpartition("/")[2]]["properties"]
        _, answer = await call("GET", asked)
        assert set(answer) <= set(members)
        assert all(member.get("description") for member in members.values())


async def test_a_foreign_host_is_refused(call: Caller) -> None:
    """DNS rebinding: a browser that was sent here by another name gets nothing."""
    async with call.session.get(call.side.url + "/v1/ledger", headers={"Host": "evil.example"}) as response:
        assert (response.status, (await response.json())["code"]) == (403, "forbidden_host")


def _retry(**more: Any) -> dict[str, Any]:
    return {"action": "retry", "filter": {"platform": "shop-a", "state": "dead"}, **more}
