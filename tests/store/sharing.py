"""Conformance: who has a share of a shared limit, or of a platform's slots, goes so many times in its turn."""

from collections import Counter
from dataclasses import replace

from relay.core.model import Batch, PlatformRules, Quota, Rate, StoreRules
from tests.store.harness import Harness, claimed, deliver, note, post, request


class SharingConformance:
    async def test_a_platform_goes_by_its_share(self, harness: Harness) -> None:
        """Of two platforms under one limit that both wait, the one with a share of 3 gets three of four slots."""
        shared = {"app": Quota("app", (Rate(1, 1.0),))}
        platforms = {"shop": PlatformRules(("app",), share=3), "mall": PlatformRules(("app",))}
        store = await harness.open(StoreRules(quotas=shared, platforms=platforms))
        await post(store, *(note(platform=name) for name in ("shop", "mall") for _ in range(30)))
        got: Counter[str] = Counter()
        for _ in range(24):
            for name in ("mall", "shop", "mall", "shop"):  # a pipeline asks again as soon as it sent
                found = await store.claim(request(name, max_items=1, probe=True))
                if isinstance(found, Batch):
                    got[name] += 1
                    await deliver(store, found, harness.clock)
            harness.clock.advance(1.0)
        assert got["shop"] + got["mall"] == 24
        assert 17 <= got["shop"] <= 19

    async def test_a_group_goes_by_its_share(self, harness: Harness) -> None:
        """Of three groups that wait the one with a share of 3 gets three batches in each round."""
        rules = StoreRules(platforms={"shop": PlatformRules(group_share={"b": 3})})
        store = await harness.open(rules)
        await post(store, *(note(group=group) for group in "abc" for _ in range(20)))
        got: Counter[str] = Counter()
        for _ in range(20):
            batch = await claimed(store, replace(request(max_items=1, probe=True), group=None))
            got[batch.group] += 1
            await deliver(store, batch, harness.clock)
        assert got == {"a": 4, "b": 12, "c": 4}
