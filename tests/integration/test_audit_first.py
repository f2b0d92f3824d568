"""No deed without its audit record: the record is committed first, and where it cannot be nothing is done."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import structlog
from relay.admin.access import Access
from relay.admin.audit import Audit
from relay.core.errors import StoreFailed
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.views.operation_view import OperationView
from tests.integration.admin_side import USERS, AdminSide, FakeClock, admin_side

DEEDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "platform.pause": ("POST", "/v1/platforms/shop-a/pause", {"reason": "sale"}),
    "platform.resume": ("POST", "/v1/platforms/shop-a/resume", {"reason": "sale"}),
    "platform.flush": ("POST", "/v1/platforms/shop-a/flush", {"reason": "sale"}),
    "platform.limit": ("POST", "/v1/platforms/shop-a/limit", {"rate": "80/min", "reason": "sale"}),
    "platform.forget_limit": ("POST", "/v1/platforms/shop-a/limit", {"forget": True, "reason": "sale"}),
    "operation.drop": ("POST", "/v1/operations", {"action": "drop", "filter": {"key": "k1"}, "reason": "sale"}),
    "config.reload": ("POST", "/v1/config/reload", {"reason": "sale"}),
}


@pytest.fixture
async def side() -> AsyncIterator[AdminSide]:
    """An admin side with users."""
    async with admin_side(users=USERS) as made:
        yield made


async def _send(side: AdminSide, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": "Bearer admin-token"}
    async with (
        aiohttp.ClientSession(side.url, headers=headers) as session,
        session.request(method, path, json=body) as response,
    ):
        return response.status, await response.json()


class Records:
    """Keeps audit records and what had been done by then, or refuses to."""

    def __init__(self, side: AdminSide, *, fail: bool = False) -> None:
        self.kept: list[Mapping[str, Any]] = []
        self.done_before: list[object] = []
        self._side = side
        self._fail = fail
        side.store.audit = self.audit  # type: ignore[method-assign]
        start = side.store.start_operation

        async def start_with(*given: Any, deed: Any = None, **more: Any) -> OperationView:
            await self.audit(deed)  # the store commits both together
            return await start(*given, **more)

        side.store.start_operation = start_with  # type: ignore[method-assign]

    async def audit(self, record: Mapping[str, Any]) -> None:
        if self._fail:
            raise StoreFailed("disk full")
        self.done_before += await _done(self._side)
        self.kept.append(record)


async def _done(side: AdminSide) -> list[object]:
    """Return every deed that has been done."""
    return [*side.control.asked, *side.config.reloads, *await side.store.open_operations()]


@pytest.mark.parametrize("action", DEEDS)
async def test_the_record_comes_first(side: AdminSide, action: str) -> None:
    """Who, what and why stand there before anything is done."""
    await side.accept(key="k1")
    records = Records(side)

    status, _ = await _send(side, *DEEDS[action])

    assert status in (200, 202)
    (record,) = records.kept
    assert (record["who"], record["action"], record["reason"]) == ("admin", action, "sale")
    assert records.done_before == []
    assert len([*side.control.asked, *side.config.reloads]) == (0 if action == "operation.drop" else 1)


@pytest.mark.parametrize("action", DEEDS)
async def test_without_a_record_nothing_is_done(side: AdminSide, action: str) -> None:
    """A store that cannot keep the record answers 503, and the deed does not happen."""
    await side.accept(key="k1")
    Records(side, fail=True)

    status, answer = await _send(side, *DEEDS[action])

    assert (status, answer["code"]) == (503, "store_failed")
    assert await _done(side) == []
    assert (await side.store.totals())["shop-a"].pending == 1


async def test_without_a_record_no_payload_is_shown(side: AdminSide) -> None:
    """A look into a payload is a deed too."""
    (callback_id,) = await side.accept()
    Records(side, fail=True)

    status, answer = await _send(side, "GET", f"/v1/callbacks/{callback_id}?payload=1")

    assert (status, answer["code"]) == (503, "store_failed")
    assert "payload" not in answer


async def test_ordering_keys_stay_out_of_the_log() -> None:
    """The record holds the filter with its key masked, as it may be a phone number; the log line has no filter."""
    kept: list[Mapping[str, Any]] = []

    class Keeps:
        async def audit(self, record: Mapping[str, Any]) -> None:
            kept.append(record)

    who = Access(USERS).identify("Bearer admin-token", remote="127.0.0.1", local=True)
    with structlog.testing.capture_logs() as lines:
        audit = Audit(
            records=Keeps(), wall=FakeClock().now, events=Events(log=structlog.get_logger(), metrics=Metrics())
        )
        await audit.record(who, "operation.drop", "shop-a", reason="sale", filter={"key": "13812345678"}, rate="5/s")

    assert kept[0]["details"] == {"filter": {"key": "138****5678"}, "rate": "5/s"}
    (line,) = lines
    assert "138" not in str(line)
    assert (line["who"], line["reason"], line["rate"]) == ("admin", "sale", "5/s")
