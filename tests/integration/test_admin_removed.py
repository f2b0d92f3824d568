"""Lists that show what they say, and platforms that are no longer in the configuration."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.integration.admin_side import AdminSide, admin_side


@pytest.fixture
async def side() -> AsyncIterator[AdminSide]:
    """An admin side without users."""
    async with admin_side() as made:
        yield made


async def _get(side: AdminSide, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(side.url + path) as response:
        return response.status, await response.json()


async def test_a_platform_that_is_gone_is_shown_paused(side: AdminSide) -> None:
    """Callbacks wait for it and nothing sends them: said in its view, in the list and with each callback."""
    (waiting,) = await side.accept(platform="shop-b")
    del side.control.facts["shop-b"]

    _, view = await _get(side, "/v1/platforms/shop-b")
    _, listed = await _get(side, "/v1/platforms")
    _, callback = await _get(side, f"/v1/callbacks/{waiting}")

    assert (view["removed"], view["state"], view["pending"]) == (True, "paused", 1)
    assert "no longer in the configuration" in view["reason"]
    assert [(each["name"], each["removed"]) for each in listed["items"]] == [("shop-a", False), ("shop-b", True)]
    assert (callback["waiting"]["for"], callback["waiting"]["removed"]) == ("paused", True)


@pytest.mark.parametrize("state", ["pending", "delivered", "expired", "superseded"])
async def test_the_list_of_dead_letters_holds_dead_letters_alone(side: AdminSide, state: str) -> None:
    """Asked for others it says where those are; asked for dead ones, or nothing, it lists them."""
    ids = await side.accept(3)
    await side.bury(ids[:1])
    assert (await _get(side, f"/v1/dead-letters?state={state}"))[0] == 400
    for query in ("", "?state=dead"):
        _, answer = await _get(side, f"/v1/dead-letters{query}")
        assert [each["id"] for each in answer["items"]] == ids[:1]
