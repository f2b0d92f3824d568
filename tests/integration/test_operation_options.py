"""What an operation is told to do reaches the store as it was said: pace, order, verdict, who and why."""

from typing import Any

import aiohttp
import pytest
from relay.core.model import Filter
from relay.views.operation_view import PLAIN, OperationOptions, OperationView
from tests.integration.admin_side import USERS, admin_side


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"action": "retry"}, {}),
        ({"action": "retry", "rate": "50/min"}, {"rate": "50/min"}),
        ({"action": "retry", "reorder": True}, {"reorder": True}),
        ({"action": "retry", "reorder": False, "rate": "1/s"}, {"rate": "1/s"}),
        ({"action": "resolve", "as": "delivered"}, {"verdict": "delivered"}),
        ({"action": "drop"}, {}),
    ],
)
async def test_options_reach_the_store(body: dict[str, Any], options: dict[str, Any]) -> None:
    """With the filter and the count that the person saw."""
    told: list[tuple[str, Filter, OperationOptions, int | None]] = []
    async with (
        admin_side(users=USERS) as side,
        aiohttp.ClientSession(side.url, headers={"Authorization": "Bearer operator-token"}) as session,
    ):
        start = side.store.start_operation

        async def noted(
            action: str,
            wanted: Filter,
            *,
            options: OperationOptions = PLAIN,
            expect_count: int | None,
            **more: Any,
        ) -> OperationView:
            told.append((action, wanted, options, expect_count))
            return await start(action, wanted, options=options, expect_count=expect_count, **more)

        side.store.start_operation = noted  # type: ignore[method-assign]
        asked = {**body, "filter": {"platform": "shop-a", "key": "k"}, "expect_count": 0, "reason": "sale"}
        async with session.post("/v1/operations", json=asked) as response:
            assert response.status == 202, await response.text()
            started = await response.json()
            assert response.headers["Location"] == f"/v1/operations/{started['id']}"
        async with session.get(response.headers["Location"]) as response:
            assert (await response.json())["action"] == body["action"]

    assert told == [
        (
            body["action"],
            Filter(platform="shop-a", key="k"),
            OperationOptions(who="operator", reason="sale", **options),
            0,
        )
    ]


async def test_a_dry_run_starts_nothing() -> None:
    """It counts the matches, and no record of it is kept."""
    async with (
        admin_side(users=USERS) as side,
        aiohttp.ClientSession(side.url, headers={"Authorization": "Bearer operator-token"}) as session,
    ):
        await side.accept(3)
        asked = {"action": "drop", "filter": {"platform": "shop-a"}, "dry_run": True}
        async with session.post("/v1/operations", json=asked) as response:
            answer = await response.json()
        assert (response.status, answer["matched"], answer["dry_run"]) == (200, 3, True)
        assert await side.store.open_operations() == []
        assert (await side.store.totals())["shop-a"].pending == 3
