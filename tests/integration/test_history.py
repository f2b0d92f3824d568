"""What the admin API tells of the past: the series of a platform, and of all."""

from typing import Any

import aiohttp
import pytest
from relay.core.model import Outcome
from tests.integration.admin_side import AdminSide, admin_side

_COLUMNS = [
    *("accepted", "delivered", "dead", "expired", "superseded"),
    *("requests", "refused", "failed", "pending", "oldest_due_s", "raw_bytes", "wire_bytes"),
]


async def _get(side: AdminSide, path: str, **query: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession(side.url) as session, session.get(path, params=query) as response:
        return response.status, await response.json(content_type=None)


def _request(side: AdminSide, outcome: Outcome, status: int | None) -> None:
    """Count a request to shop-a, as delivery does."""
    side.metrics.requests["shop-a", outcome.value, "none" if status is None else f"{status // 100}xx"] += 1
    side.metrics.batch_bytes["shop-a", "raw"] += 100
    side.metrics.batch_bytes["shop-a", "wire"] += 40


def _named(answer: Any) -> list[dict[str, Any] | None]:
    assert answer["columns"] == _COLUMNS
    return [None if row[0] is None else dict(zip(_COLUMNS, row, strict=True)) for row in answer["rows"]]


async def test_series_by_the_minute() -> None:
    """A row for each minute: what was counted, null while nothing ran, and the running minute last."""
    async with admin_side() as side:
        side.clock.at = began = side.clock.at // 60 * 60
        await side.accept(3)
        for outcome, status in ((Outcome.OK, 200), (Outcome.THROTTLED, 429), (Outcome.RETRY, None)):
            _request(side, outcome, status)
        side.clock.at = began + 59
        await side.sampling.close()  # as at a stop: the minute so far is kept
        side.clock.at = began + 180
        await side.accept(1)
        await side.accept(1, platform="shop-b")
        _request(side, Outcome.REJECT, 400)
        side.clock.at = began + 190
        status, answer = await _get(side, "/v1/platforms/shop-a/series", since="3m", step="1m")
        assert status == 200
        assert (answer["step_s"], answer["from"]) == (60, "2026-09-21T14:13:00.000Z")
        first, *gap, running = _named(answer)
        assert gap == [None, None]
        assert first == {
            "accepted": 3, "delivered": 0, "dead": 0, "expired": 0, "superseded": 0, "requests": 3, "refused": 1,
            "failed": 1, "pending": 3, "oldest_due_s": 59.0, "raw_bytes": 300, "wire_bytes": 120,
        }  # fmt: skip
        assert running == {
            "accepted": 1, "delivered": 0, "dead": 0, "expired": 0, "superseded": 0, "requests": 1, "refused": 1,
            "failed": 0, "pending": 4, "oldest_due_s": 190.0, "raw_bytes": 100, "wire_bytes": 40,
        }  # fmt: skip
        _, answer = await _get(side, "/v1/platforms/_all/series", since="3m")
        assert [row and (row["accepted"], row["pending"]) for row in _named(answer)] == [(3, 3), None, None, (2, 5)]
        _, answer = await _get(side, "/v1/platforms/shop-a/series", since="3m", step="10m")
        assert [row and (row["accepted"], row["requests"], row["pending"]) for row in _named(answer)] == [(4, 4, 4)]


async def test_series_by_5_s() -> None:
    """The last 15 minutes are in memory, in spans of 5 s; a span nobody looked at is null."""
    async with admin_side() as side:
        side.clock.at = began = side.clock.at // 60 * 60
        await side.sampling.tick(int(began) - 5)
        await side.accept(2)
        _request(side, Outcome.OK, 200)
        side.clock.at = began + 5
        await side.sampling.tick(int(began))
        side.clock.at = began + 12
        await side.accept(1, platform="shop-b")
        _, answer = await _get(side, "/v1/platforms/shop-a/series", since="12s", step="5s")
        shown = [row and (row["accepted"], row["requests"], row["pending"]) for row in _named(answer)]
        assert (answer["step_s"], shown) == (5, [(2, 1, 2), None, (0, 0, 2)])
        _, answer = await _get(side, "/v1/platforms/_all/series", since="12s", step="5s")
        assert [row and row["accepted"] for row in _named(answer)] == [2, None, 1]
        _, answer = await _get(side, "/v1/platforms/shop-a/series", since="2h", step="5s")
        assert len(answer["rows"]) == 181  # no more is remembered


@pytest.mark.parametrize(
    ("query", "key", "words"),
    [
        ({"step": "2m"}, "step", "there are: 5s, 1m, 10m, 1h"),
        ({"since": "2039-01-01T00:00:00Z"}, "since", "in the future"),
        ({"since": "yesterday"}, "since", "write an age such as 2h"),
        ({"since": "90d"}, "since", "take a longer step"),
        ({"sinse": "2h"}, "sinse", "did you mean 'since'"),
    ],
)
async def test_series_of_nothing(query: dict[str, str], key: str, words: str) -> None:
    """What cannot be meant is refused by the name of its key."""
    async with admin_side() as side:
        status, problem = await _get(side, "/v1/platforms/shop-a/series", **query)
        assert (status, problem["code"], problem["key"]) == (400, "invalid_filter", key)
        assert words in problem["detail"]
        assert (await _get(side, "/v1/platforms/shop-x/series"))[0] == 404


async def test_breakdown() -> None:
    """What came of the callbacks of a day, by platform or event, with the share that needs somebody."""
    async with admin_side() as side:
        await side.accept(3, event="order.paid")
        await side.accept(1, event=None, platform="shop-b")
        await side.reject()
        side.clock.at += 301
        status, answer = await _get(side, "/v1/breakdown", by="platform", since="1h")
        assert (status, answer["complete"], answer["others"]) == (200, True, None)
        assert answer["items"][0] == {
            "channel": "shop-a", "accepted": 3, "pending": 2, "delivered": 0, "dead": 1, "expired": 0, "superseded": 0,
            "held": 0, "late": 2, "abnormal": 1.0,
        }  # fmt: skip
        _, answer = await _get(side, "/v1/breakdown", by="event")
        assert {item["channel"]: item["accepted"] for item in answer["items"]} == {"order.paid": 3, None: 1}
        _, answer = await _get(side, "/v1/breakdown", since="5m")
        assert answer["items"] == []
        for query in ({"by": "key"}, {"since": "2039-01-01"}):
            status, problem = await _get(side, "/v1/breakdown", **query)
            assert (status, problem["code"], [problem["key"]]) == (400, "invalid_filter", list(query))


async def test_groups_of_failures() -> None:
    """A hundred dead letters for one reason are one group, and what is held is grouped too."""
    async with admin_side() as side:
        ids = await side.accept(3)
        await side.accept(1, platform="shop-b")
        for platform in ("shop-a", "shop-a", "shop-b"):
            await side.reject(platform=platform)
        await side.hold()
        status, answer = await _get(side, "/v1/dead-letters/groups")
        assert (status, answer["complete"]) == (200, True)
        at = "2026-09-21T14:13:20.000Z"
        assert answer["items"][0] == {
            "platform": "shop-a", "reason": "rejected", "code": None, "message": "", "count": 2,
            "first_seen": at, "last_seen": at, "sample": ids[1],
        }  # fmt: skip
        assert [(group["platform"], group["count"]) for group in answer["items"]] == [("shop-a", 2), ("shop-b", 1)]
        _, answer = await _get(side, "/v1/dead-letters/groups", state="held")
        assert [(group["reason"], group["count"]) for group in answer["items"]] == [("200 OK, no rule matched", 1)]
        _, answer = await _get(side, "/v1/dead-letters/groups", platform="shop-b", code="7")
        assert answer["items"] == []
        for query in ({"state": "delivered"}, {"plattform": "shop-a"}, {"since": "2039-01-01"}):
            status, problem = await _get(side, "/v1/dead-letters/groups", **query)
            assert (status, problem["code"], [problem["key"]]) == (400, "invalid_filter", list(query))
        assert (await _get(side, "/v1/dead-letters/groups", platform="shop-x"))[0] == 404
