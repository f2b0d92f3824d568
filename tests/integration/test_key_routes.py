"""The routes about keys: what they refuse, and what they leave behind."""

from typing import Any

import aiohttp
import pytest
from tests.integration.admin_side import admin_side


async def _post(url: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with aiohttp.ClientSession(url) as session, session.post(path, json=body) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"reason": "asked for"}, "invalid_request"),
        ({"key": "A", "before": "1d", "reason": "asked for"}, "invalid_request"),
        ({"key": "A"}, "invalid_request"),
        ({"key": "A", "reason": "  "}, "invalid_request"),
        ({"key": "", "reason": "asked for"}, "invalid_request"),
        ({"before": "soon", "reason": "asked for"}, "invalid_filter"),
        ({"key": "A", "platform": "nowhere", "reason": "asked for"}, "unknown_platform"),
        ({"kee": "A", "reason": "asked for"}, "invalid_request"),
    ],
)
async def test_what_is_not_clear_destroys_nothing(body: dict[str, Any], code: str) -> None:
    """Neither or both of key and date, no reason, an unknown word: refused, and nothing is recorded."""
    async with admin_side() as side:
        status, problem = await _post(side.url, "/v1/keys/forget", body)
        assert (status >= 400, problem["code"]) == (True, code)
        assert side.records == []


async def test_forget_starts_an_operation_and_is_recorded() -> None:
    """The answer is the operation; the record holds the reason, and a hash in place of the key."""
    async with admin_side() as side:
        status, answer = await _post(side.url, "/v1/keys/forget", {"key": "A-1", "reason": "the buyer asked"})
        assert (status, answer["action"]) == (202, "forget")
        (record,) = side.records
        assert (record["action"], record["reason"]) == ("keys.forget", "the buyer asked")
        assert record["details"]["key"] == answer["filter"]["key"] != "A-1"


async def test_nothing_to_rotate() -> None:
    """A store that is not sealed has no keys: 409 ``not_sealed``."""
    async with admin_side() as side:
        status, problem = await _post(side.url, "/v1/keys/rotate", {})
        assert (status, problem["code"]) == (409, "not_sealed")
