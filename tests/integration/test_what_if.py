"""A change is tried on the traffic of the last hour, in a process of its own, before anything is changed."""

import asyncio
from typing import Any

import aiohttp
import pytest
from relay.admin.resources import what_if_routes
from relay.views.configuration import InForce
from tests.integration.admin_side import USERS, AdminSide, admin_side

SETTINGS = {"rate": ["30/min"], "batch": {"max_items": 1, "max_bytes": "2MiB"}, "concurrency": 4}
PATH = "/v1/platforms/shop-a/simulate"


async def _try(side: AdminSide, body: Any, *, path: str = PATH, user: str = "operator") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {user}-token"}
    async with (
        aiohttp.ClientSession(side.url, headers=headers) as session,
        session.post(path, json=body) as response,
    ):
        return response.status, await response.json(content_type=None)


async def _busy_minutes(side: AdminSide, minutes: int) -> None:
    side.config.effective = InForce(file="config.yaml", config={"platforms": {"shop-a": SETTINGS}}, origins={})
    for minute in range(minutes):
        await side.accept(60, key=f"order-{minute}")
        side.clock.at += 60


async def test_larger_batches_are_seen_to_drain_what_grows_now() -> None:
    """60 a minute into 30 requests a minute of one callback each: a backlog. With ten in a request there is none."""
    async with admin_side(users=USERS) as side:
        await side.accept(5, key="before")
        side.clock.at += 7200
        await _busy_minutes(side, 8)

        status, told = await _try(side, {"batch": {"max_items": 10}})

        assert status == 200, told
        assert (told["modelled"], told["callbacks"], told["waiting"]) == (True, 480, 5)
        assert (told["settings"], told["changed"]) == ({"batch": {"max_items": 1}}, {"batch": {"max_items": 10}})
        now, tried = told["now"], told["tried"]
        assert now["left"] > 200
        assert tried["left"] <= 60
        assert now["drained_s"] > 240 > tried["drained_s"]
        assert (now["delivered"], tried["delivered"]) == (485, 485)
        assert now["items_per_request"] == 1.0
        assert tried["items_per_request"] > 1.5
        assert any("take no time" in each for each in told["assumed"])
        assert side.config.reloads == []
        assert (await side.store.platform_status())["shop-a"].pending == 485


async def test_of_a_flood_the_newest_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when all of it came in one minute."""
    monkeypatch.setattr(what_if_routes, "_MOST", 40)
    monkeypatch.setattr(what_if_routes, "_PAGE", 20)
    async with admin_side(users=USERS) as side:
        await _busy_minutes(side, 2)
        status, told = await _try(side, {"rate": "80/min"})
        assert (status, told["callbacks"], told["waiting"]) == (200, 40, 60)
        monkeypatch.setattr(what_if_routes, "_MOST_WAITING", 59)
        status, told = await _try(side, {"rate": "80/min"})
        assert (status, told["code"], "relay simulate" in told["detail"]) == (503, "overloaded", True)


async def test_what_cannot_be_tried_is_refused_by_name() -> None:
    """Nothing to try, a typo, a rate that is none, a platform that is none, a quiet hour, a role without the right."""
    async with admin_side(users=USERS) as side:
        await _busy_minutes(side, 1)
        for body, key, words in (
            ({}, None, "say what to try"),
            ({"rates": "80/min"}, None, "did you mean 'rate'?"),
            ({"rate": "80/mn"}, "rate", "80/mn"),
            ({"batch": {"max_items": 0}}, "batch", "max_items"),
            ({"concurrency": "many"}, "concurrency", "concurrency"),
            ({"rate": None}, "rate", "is null"),
        ):
            status, told = await _try(side, body)
            assert (status, told["code"], told.get("key")) == (400, "invalid_request", key), told
            assert words in told["detail"]
        assert (await _try(side, {"rate": "80/min"}, path="/v1/platforms/shop-x/simulate"))[0] == 404
        assert (await _try(side, {"rate": "80/min"}, user="viewer"))[0] == 403
        status, told = await _try(side, {"rate": "80/min"}, path="/v1/platforms/shop-b/simulate")
        assert (status, "nothing came in" in told["detail"]) == (400, True)


async def test_one_change_is_tried_at_a_time() -> None:
    """The second one meanwhile is told to come back, and the first one is not disturbed."""
    async with admin_side(users=USERS) as side:
        await _busy_minutes(side, 2)
        answers = await asyncio.gather(*(_try(side, {"batch": {"linger": f"{n}s"}}) for n in range(2)))
        told = dict(answers)
        assert sorted(told) == [200, 503]
        assert told[503]["code"] == "overloaded"
        assert told[200]["tried"]["items_per_request"] == 1.0  # max_items stays what it is
