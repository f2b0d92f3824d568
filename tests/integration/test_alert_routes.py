"""Alerts over the operators' listener and the command line: what is shown, silenced and tried."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.integration.admin_side import START, AdminSide, admin_side
from tests.integration.test_cli_admin import relay


@pytest.fixture
async def side() -> AsyncIterator[AdminSide]:
    """Return an admin listener with one alert that fires, one that ended and two targets."""
    async with admin_side() as running:
        yield running


async def post(side: AdminSide, path: str, body: Any) -> tuple[int, Any]:
    """Post a JSON body and return status and answer."""
    async with aiohttp.ClientSession(side.url) as session, session.post(path, json=body) as response:
        return response.status, await response.json(content_type=None)


async def test_alerts_are_listed_with_the_targets(side: AdminSide) -> None:
    """What fires first; times as instants; how each target did."""
    async with aiohttp.ClientSession(side.url) as session, session.get("/v1/alerts") as response:
        answer = await response.json()
    firing, ended = answer["items"]
    assert (firing["rule"], firing["status"], firing["platform"], firing["until"]) == ("late", "firing", "shop-a", None)
    assert firing["since"].endswith("Z")
    assert (ended["status"], ended["until"] is not None) == ("resolved", True)
    assert answer["targets"][1] == {
        "name": "deaf",
        "kind": "webhook",
        "waiting": 3,
        "last": {"result": "failed", "at": answer["targets"][1]["last"]["at"], "reason": "timeout"},
    }


async def test_a_silence_is_audited_and_ends(side: AdminSide) -> None:
    """For two hours, by whom and why; 0s ends it."""
    status, answer = await post(side, "/v1/alerts/late/silence", {"for": "2h", "reason": "known"})
    assert (status, answer["rule"]) == (200, "late")
    assert side.alarms.silences == [("late", START + 7200, "known", "local")]
    assert side.records[-1]["action"] == "alert.silence"
    assert (await post(side, "/v1/alerts/late/silence", {"for": "0s"}))[0] == 200
    assert side.alarms.silences[-1][1] == START


@pytest.mark.parametrize(
    ("path", "body", "status", "hint"),
    [
        ("/v1/alerts/latee/silence", {"for": "2h"}, 404, "'late'"),
        ("/v1/alerts/late/silence", {}, 400, "'for'"),
        ("/v1/alerts/late/silence", {"for": "2"}, 400, "'for'"),
        ("/v1/alerts/late/silence", {"for": "31d"}, 400, "30d"),
        ("/v1/alerts/late/silence", {"for": "2h", "why": "x"}, 400, "'why'"),
        ("/v1/alert-targets/opss/test", {}, 404, "'ops'"),
        ("/v1/alert-targets/ops/test", {"reason": 3}, 400, "'reason'"),
    ],
)
async def test_what_means_nothing_is_refused(side: AdminSide, path: str, body: Any, status: int, hint: str) -> None:
    """Names that there are none of, no time, keys nobody knows: nothing is done and nothing recorded."""
    found, problem = await post(side, path, body)
    assert (found, hint in problem["detail"]) == (status, True), problem
    assert side.alarms.silences == side.records == []


async def test_the_commands_say_it_in_words(side: AdminSide) -> None:
    """`relay alerts` shows what fires and which target does not take messages; `relay alert` silences."""
    shown = await relay("alerts", "--admin", side.url)
    assert shown.code == 0
    assert "firing late shop-a: a is late" in shown.out
    assert "next: relay status" in shown.out
    assert "1 firing, 1 ended in the last 7 days" in shown.out
    assert "deaf (webhook): last message failed: timeout" in shown.out
    assert "deaf (webhook): 3 messages wait" in shown.out
    silenced = await relay("alert", "silence", "late", "--for", "2h", "--admin", side.url)
    assert (silenced.code, silenced.out.startswith("late is silent until ")) == (0, True)


async def test_a_chinese_locale_has_chinese_words(side: AdminSide) -> None:
    """The daemon's words and the command's own; the command to run next, names and rules stay. So do refusals."""
    shown = await relay("alerts", "--admin", side.url, LC_ALL="zh_CN.UTF-8", PYTHONUTF8="1")
    refused = await relay("show", "1K0VE24A9Y000R9", "--admin", side.url, LC_ALL="zh_CN.UTF-8", PYTHONUTF8="1")

    assert "firing late shop-a: a 的 late" in shown.out
    assert "下一步：relay status" in shown.out
    assert "1 条在响，1 条在最近 7 天里结束" in shown.out
    assert refused.code == 1
    assert refused.err.startswith("relay: 没有这个回调")
    assert "1K0VE24A9Y000R9" in refused.err


async def test_a_drill_that_does_not_arrive_exits_1_with_the_answer(side: AdminSide) -> None:
    """0 for one that was taken; else the reason and what was answered."""
    good = await relay("alert", "test", "ops", "--admin", side.url)
    assert (good.code, good.out) == (0, "ops took the drill (status 200)\n")
    bad = await relay("alert", "test", "deaf", "--admin", side.url)
    assert bad.code == 1
    assert "deaf did not take the drill (status 200): errcode=310000" in bad.err
    assert "sign not match" in bad.err
