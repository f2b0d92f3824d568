"""What intake tells the others: expiry of what will be over soon, the log and the metrics of what is new."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from relay.ingest.fan_out import Routing
from relay.ingest.posts import Directory
from tests.integration.test_ingest import NDJSON, PLATFORMS, POST, Relay, running

ROUTED = "/v1/callbacks"
GROUPED = "/v1/platforms/grouped/callbacks"
SOON, LATE = {"Relay-Expires": "10s"}, {"Relay-Expires": "30m"}


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A listener whose routes take everything to two platforms."""
    async with running() as made:
        directory = Directory(Routing(otherwise=("shop-a", "raw")), PLATFORMS)
        made.server.configure(settings=made.settings, directory=directory)
        made.inbox.accept_posts = made.store.accept_posts  # type: ignore[attr-defined]
        yield made


async def post(relay: Relay, path: str, body: bytes, **headers: str) -> dict[str, Any]:
    """Post and return the answer to a 202."""
    async with aiohttp.ClientSession() as session:
        url = f"http://{relay.server.address}{path}"
        async with session.post(url, data=body, headers=headers) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == 202, answer
            return answer


def accepted(relay: Relay) -> list[tuple[str, int, int]]:
    """Return platform, count and duplicates of each line about what was accepted."""
    lines = map(json.loads, relay.log.getvalue().splitlines())
    return [(line["platform"], line["count"], line["duplicates"]) for line in lines if line["event"] == "accepted"]


def duplicates(relay: Relay, platform: str) -> bool:
    """Say whether a scrape shows one repeat."""
    return f'relay_callbacks_total{{platform="{platform}",result="duplicate"}} 1.0' in relay.metrics.render().decode()


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (POST, b'{"order_id": 1}', {}),
        (POST, b'{"order_id": 1}\n{"order_id": 2}', NDJSON),
        (ROUTED, b"{}", {}),
        (ROUTED, b"{}\n{}", NDJSON),
    ],
)
async def test_expiry_hears_of_what_is_over_soon(relay: Relay, path: str, body: bytes, headers: dict[str, str]) -> None:
    """However it was posted: expiry sleeps up to a minute, and what lives for ten seconds must end in time."""
    await post(relay, path, body, **headers, **SOON)

    assert min(relay.expiring) == 10.0


async def test_the_soonest_line_counts(relay: Relay) -> None:
    """Of an NDJSON request the line that is over first decides."""
    lines = [b'{"payload": {}, "expires": "30m"}', b'{"payload": {}, "expires": "10s"}', b'{"payload": {}}']
    await post(relay, POST, b"\n".join(lines), **NDJSON, **{"Relay-Envelope": "1"}, **LATE)

    assert relay.expiring == [10.0]


async def test_a_repeat_is_told_as_one(relay: Relay) -> None:
    """One callback, sent twice under its key: accepted once, and once more as a repeat."""
    for _ in range(2):
        await post(relay, POST, b"{}", **{"Idempotency-Key": "a"})

    assert accepted(relay) == [("shop-a", 1, 0), ("shop-a", 0, 1)]
    assert duplicates(relay, "shop-a")


async def test_a_repeated_line_is_told_as_one(relay: Relay) -> None:
    """An NDJSON request comes again with a line more: one repeat, one new."""
    await post(relay, POST, b'{"order_id": 1}', **NDJSON, **{"Idempotency-Key": "a"})
    await post(relay, POST, b'{"order_id": 1}\n{"order_id": 2}', **NDJSON, **{"Idempotency-Key": "a"})

    assert accepted(relay) == [("shop-a", 1, 0), ("shop-a", 1, 1)]
    assert duplicates(relay, "shop-a")


@pytest.mark.parametrize("headers", [{}, NDJSON])
async def test_a_repeated_routed_post_is_told_for_each_platform(relay: Relay, headers: dict[str, str]) -> None:
    """Each platform that it went to, once as new and once as a repeat."""
    for _ in range(2):
        await post(relay, ROUTED, b"{}", **headers, **{"Idempotency-Key": "a"})

    told = accepted(relay)
    assert sorted(told[:2]) == [("raw", 1, 0), ("shop-a", 1, 0)]
    assert sorted(told[2:]) == [("raw", 0, 1), ("shop-a", 0, 1)]
    assert duplicates(relay, "shop-a")
    assert duplicates(relay, "raw")


@pytest.mark.parametrize(("length", "state"), [(255, "pending"), (256, "dead")])
async def test_a_group_may_have_255_characters(relay: Relay, length: int, state: str) -> None:
    """One more is the wrong field: the callback is a dead letter."""
    body = b'{"order_id": 1, "shop_id": "%b"}' % (b"7" * length)

    answer = await post(relay, GROUPED, body)

    assert answer["state"] == state
    found = await relay.store.callback(answer["id"])
    assert found is not None
    assert found.group == ("7" * 255 if state == "pending" else "")
