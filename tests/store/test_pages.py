"""Pages of callbacks of many platforms on a server: merged newest first, with a few calls for each page."""

import random
from typing import Any

import pytest
from relay.core.model import Filter
from relay.store.redis.backend import RedisStore
from relay.store.redis.read import pages
from tests.store.harness import bury, claimed, note, post, request, rules
from tests.store.several import Hosts

PLATFORMS = tuple(f"p{n}" for n in range(30))


async def _all(store: RedisStore, wanted: Filter, *, limit: int) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = await store.callbacks(wanted, cursor=cursor, limit=limit)
        found += [each.id for each in page]
        if cursor is None:
            return found


def _round_trips(store: RedisStore) -> list[int]:
    calls: list[int] = []
    run = store.link.run

    async def counts(asked: Any, **more: Any) -> Any:
        calls.append(len(asked))
        return await run(asked, **more)

    store.link.run = counts  # type: ignore[method-assign]
    return calls


async def test_platforms_are_merged(hosts: Hosts) -> None:
    """Many with little, few with much, some posted at the same moment: each once, newest first, at any page size."""
    store = await hosts.open(rules(*PLATFORMS))
    rng = random.Random(5)
    posted: list[tuple[float, str, str]] = []
    for _ in range(40):
        name = rng.choice((*PLATFORMS, "p1", "p1", "p1"))
        many = rng.choice((1, 1, 2, 20))
        key = rng.choice(("k", None))
        ids = (await post(store, *(note(key=key, platform=name) for _ in range(many)))).ids
        posted += [(hosts.clock.now(), each, name) for each in ids]
        hosts.clock.advance(rng.choice((0.0, 1.0)))
    await bury(store, await claimed(store, request("p1")), hosts.clock)
    by_id = {each: (at, name) for at, each, name in posted}
    for limit in (13, 100, 5000):
        found = await _all(store, Filter(), limit=limit)
        assert sorted(found) == sorted(by_id)
        times = [by_id[each][0] for each in found]
        assert times == sorted(times, reverse=True), limit
        assert await _all(store, Filter(platform="p1"), limit=limit) == [
            each for each in found if by_id[each][1] == "p1"
        ]
        keyed = await _all(store, Filter(key="k"), limit=limit)
        listed = [each.id for each in (await store.callbacks(Filter(), cursor=None, limit=5000))[0] if each.key == "k"]
        assert keyed == listed
        dead = await _all(store, Filter(state="dead"), limit=limit)
        pending = await _all(store, Filter(state="pending"), limit=limit)
        assert sorted(dead + pending) == sorted(by_id)
        some = rng.sample(found, 9)
        assert sorted(await _all(store, Filter(ids=tuple(some)), limit=limit)) == sorted(some)


async def test_a_page_is_a_few_calls(hosts: Hosts) -> None:
    """However many platforms there are, and however much each of them has."""
    store = await hosts.open(rules(*PLATFORMS))
    for name in PLATFORMS:
        await post(store, *(note(platform=name, key="k") for _ in range(5)))
        hosts.clock.advance(1)
    await post(store, *(note(platform="p9") for _ in range(500)))
    calls = _round_trips(store)
    for wanted in (Filter(), Filter(state="dead"), Filter(key="k"), Filter(ids=("nobody",))):
        calls.clear()
        await store.callbacks(wanted, cursor=None, limit=100)
        assert 0 < len(calls) <= 8, wanted


async def test_rare_matches_come_in_short_pages(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at so many rows and no more; the next one goes on from there."""
    monkeypatch.setattr(pages, "_MOST_LOOKED_AT", 200)
    store = await hosts.open(rules("shop", "mall"))
    (first,) = (await post(store, note(event="rare"))).ids
    for _ in range(5):
        hosts.clock.advance(1)
        await post(store, *(note(platform=name) for name in ("shop", "mall") for _ in range(100)))
    monkeypatch.setattr(pages, "_TOGETHER", 100)
    page, cursor = await store.callbacks(Filter(event="rare"), cursor=None, limit=10)
    assert page == []
    assert cursor is not None
    assert await _all(store, Filter(event="rare"), limit=10) == [first]
