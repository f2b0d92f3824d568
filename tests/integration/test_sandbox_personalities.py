"""Personalities over real sockets: per path, with tokens, limits, faults and what the log says of it."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from relay.standin.bodies import digest
from relay.standin.platform import Platform
from relay.standin.settings import BadSetting, Settings

ACCOUNT = "Basic " + base64.b64encode(b"sandbox-app:sandbox-secret").decode()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client whose requests end."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """Give a stand-in that is WeChat on one path, WooCommerce on another, and itself elsewhere."""
    made = Platform(
        settings=Settings(),
        paths={
            "/wx": Settings().changed({"personality": "wechat-shipping:token_requests=1"}),
            "/woo": Settings().changed({"personality": "woocommerce-batch:fail_field=bad"}),
        },
        log=tmp_path / "log.jsonl",
    )
    await made.start()
    yield made
    await made.close()


def last(platform: Platform) -> dict[str, Any]:
    """Return the last arrival."""
    arrival: dict[str, Any] = json.loads(list(platform.log.since(0))[-1])
    return arrival


async def test_tokens_are_fetched_used_and_end(platform: Platform, http: aiohttp.ClientSession) -> None:
    """The token endpoint of a path's personality answers at its own path, is no request, and its tokens end."""
    query = {"grant_type": "client_credential", "appid": "sandbox-app", "secret": "sandbox-secret"}
    async with http.get(f"{platform.url}/cgi-bin/token", params=query) as response:
        token = (await response.json())["access_token"]
    assert platform.stats()["requests"] == 0
    codes = []
    body = b'{"order_key": {"transaction_id": "1"}}'
    for _ in range(2):
        async with http.post(f"{platform.url}/wx", params={"access_token": token}, data=body) as response:
            codes.append((await response.json())["errcode"])
    assert codes == [0, 42001]
    figures = platform.stats()["paths"]["/wx"]
    assert (figures["requests"], figures["accepted"], figures["callbacks"]) == (2, 1, 1)
    assert figures["personality"]["tokens"] == 1
    assert figures["answers"] == {"200 errcode 0": 1, "200 errcode 42001": 1}


async def test_the_log_says_which_callbacks_were_taken(platform: Platform, http: aiohttp.ClientSession) -> None:
    """Of a batch that was applied in part, the items are all there and the taken ones are named; gzip or not."""
    updates = [b'{"id": 1}', b'{"id": 2, "bad": true}', b'{"id": 3}']
    body = gzip.compress(b'{"update": [' + b",".join(updates) + b"]}")
    headers = {"Authorization": ACCOUNT, "Content-Encoding": "gzip"}
    async with http.post(f"{platform.url}/woo", data=body, headers=headers) as response:
        assert response.status == 200
    arrival = last(platform)
    assert arrival["items"] == [digest(update) for update in updates]
    assert arrival["taken"] == [digest(updates[0]), digest(updates[2])]
    assert (arrival["applied"], arrival["answer"], arrival["count"]) == (True, "200 1 of 3 failed", 3)
    assert platform.stats()["paths"]["/woo"]["callbacks"] == 2


async def test_limits_and_faults_go_with_a_personality(platform: Platform, http: aiohttp.ClientSession) -> None:
    """Above a configured limit it answers in its own manner; what a lost answer applied is a repeat the next time."""
    platform.change({"limit": ["1/h"]}, "/woo")
    statuses = []
    for _ in range(2):
        async with http.post(
            f"{platform.url}/woo", data=b'{"update":[]}', headers={"Authorization": ACCOUNT}
        ) as response:
            statuses.append((response.status, "Retry-After" in response.headers))
    assert statuses == [(200, False), (429, True)]
    assert last(platform)["limited"]
    platform.change({"personality": "cloudevents", "fault": ["apply-then-503:1"]}, "/ce")
    event = b'[{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"n":1}}]'
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    seen = []
    for fault in (["apply-then-503:1"], []):
        platform.change({"fault": fault}, "/ce")
        async with http.post(f"{platform.url}/ce", data=event, headers=headers) as response:
            seen.append((response.status, last(platform)["applied"]))
    assert seen == [(503, True), (204, False)]
    assert platform.stats()["paths"]["/ce"]["personality"]["duplicate"] == 1


def test_a_mistyped_personality_says_what_was_meant() -> None:
    """The name is guessed, an unknown option is named with those there are."""
    with pytest.raises(BadSetting, match="did you mean 'mixpanel-import'"):
        Settings().changed({"personality": "mixpanel"})
    with pytest.raises(BadSetting, match="no option of a personality"):
        Settings().changed({"personality": "cloudevents:speed=1"})
