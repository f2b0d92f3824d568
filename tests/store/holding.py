"""Conformance: ordering keys that an operator holds back."""

from typing import Any

import pytest
from msgspec import UNSET
from relay.core.model import Filter
from tests.store.harness import (
    Harness,
    RestartHarness,
    balanced,
    bury,
    claimed,
    deliver,
    note,
    operate,
    payloads,
    post,
    refused,
    request,
    requeue,
    resend,
    rules,
    shown,
    special,
    states,
)


class HoldingConformance:
    async def test_a_held_key_waits_alone(self, harness: Harness) -> None:
        """What is there and what comes later; other keys, other platforms and what has no key go on."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        (first,) = (await post(store, note(b"1", key="k"))).ids
        assert await store.held_keys.hold("shop", "k", "the customer called") == 1
        await post(store, note(b"2", key="k"), note(b"3", key="o"), note(b"4"))
        await post(store, note(b"5", key="k", platform="other"))
        batch = await claimed(store)
        assert sorted(payloads(batch)) == [b"3", b"4"]
        await deliver(store, batch, clock)
        await refused(store)
        assert payloads(await claimed(store, request("other"))) == [b"5"]
        assert (await shown(store, first)).key_held == "the customer called"
        assert (await store.platform_status())["shop"].keys_held == 1
        assert await store.held_keys.hold("shop", "k", "still") == 2
        assert (await shown(store, first)).key_held == "still"
        assert await store.held_keys.release("shop", "k")
        assert not await store.held_keys.release("shop", "k")
        for expected in (b"1", b"2"):
            batch = await claimed(store)
            assert payloads(batch) == [expected]
            await deliver(store, batch, clock)
        assert (await shown(store, first)).key_held is UNSET
        assert (await store.platform_status())["shop"].keys_held == 0
        await balanced(store)

    async def test_a_key_is_held_before_it_has_anything(self, harness: Harness) -> None:
        """An order that is still to come; several of it in one post."""
        store = await harness.open(rules())
        assert await store.held_keys.hold("shop", "k", "") == 0
        await post(store, note(b"1", key="k"), note(b"2", key="k"))
        await refused(store)
        await store.held_keys.release("shop", "k")
        assert payloads(await claimed(store)) == [b"1"]

    @pytest.mark.parametrize("back", [requeue, resend])
    async def test_what_is_frozen_goes_on(self, harness: Harness, back: Any) -> None:
        """And only that: put back into the queue it waits; a batch that must go again does."""
        store, clock = await harness.open(rules()), harness.clock
        await post(store, note(b"1", key="k"), note(b"2", key="k"))
        batch = await claimed(store)
        await store.held_keys.hold("shop", "k", "")
        await back(store, batch, clock, after_s=1.0)
        clock.advance(1)
        await store.retry_now("shop")
        if back is resend:
            await deliver(store, await claimed(store), clock)
        await refused(store)
        await store.held_keys.release("shop", "k")
        assert payloads(await claimed(store)) == [b"1" if back is requeue else b"2"]

    async def test_a_held_key_ends_as_others_do(self, harness: Harness) -> None:
        """It expires, is taken back, dropped and coalesced; a retry waits."""
        store, clock = await harness.open(special(coalesce=True)), harness.clock
        await store.held_keys.hold("shop", "k", "")
        ids = (await post(store, note(b"1", key="k"))).ids + (await post(store, note(b"2", key="k", expires_s=9.0))).ids
        clock.advance(10)
        await store.expire()
        assert await states(store, ids) == ["superseded", "expired"]
        await operate(store, "retry", Filter(state="expired"))
        await refused(store)
        assert len((await store.cancel_key("shop", "k")).ids) == 1
        (third,) = (await post(store, note(b"3", key="k"))).ids
        await operate(store, "drop", Filter(ids=(third,)))
        await store.held_keys.release("shop", "k")
        await refused(store)

    async def test_a_dead_one_that_blocks_and_a_hold(self, harness: Harness) -> None:
        """Both must end before the next of the key goes."""
        store, clock = await harness.open(special(block_on_dead=True)), harness.clock
        ids = (await post(store, note(b"1", key="k"), note(b"2", key="k"))).ids
        await bury(store, await claimed(store), clock)
        await store.held_keys.hold("shop", "k", "")
        await store.held_keys.release("shop", "k")
        await refused(store)
        await store.held_keys.hold("shop", "k", "")
        await operate(store, "drop", Filter(ids=(ids[0],)))
        await refused(store)
        await store.held_keys.release("shop", "k")
        assert payloads(await claimed(store)) == [b"2"]


class DurableHoldingConformance:
    async def test_a_hold_survives(self, harness: RestartHarness) -> None:
        """A crash ends no hold, and what comes after it is held too."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k"))
        await store.held_keys.hold("shop", "k", "why")
        store = await harness.reopen(rules())
        (second,) = (await post(store, note(b"2", key="k"))).ids
        await refused(store)
        assert (await shown(store, second)).key_held == "why"
        await store.held_keys.release("shop", "k")
        assert payloads(await claimed(store)) == [b"1"]
