"""Conformance: when a platform may send, and what goes into a batch."""

from relay.core.model import Lane, Quota, Rate, WaitUntil
from relay.core.settlement import Requeue, Resend
from relay.policy.batching import lane_order
from relay.policy.sharing import GRACE_S
from relay.store.base import Store
from relay.views.moments import Instant
from relay.views.queue import QuotaUse, SlotUses
from tests.store.harness import (
    NEVER,
    Harness,
    claimed,
    deliver,
    note,
    payloads,
    post,
    refused,
    request,
    requeue,
    resend,
    rules,
    seqs,
    settlement,
    shown,
    until,
)


async def quota_names(store: Store) -> dict[str, list[str]]:
    """Return the names of the quotas in force on each platform."""
    found = await store.platform_status()
    return {name: [window.quota for window in status.quotas] for name, status in found.items()}


class ClaimingConformance:
    async def test_idle(self, harness: Harness) -> None:
        """With nothing to send the wait has no end and says ``idle``."""
        store = await harness.open(rules())
        assert await refused(store) == WaitUntil(NEVER, "idle")

    async def test_claim_records_the_attempt(self, harness: Harness) -> None:
        """A claimed batch is numbered, its items carry their counts from before, and its callbacks are in flight."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1"), note(b"2"))
        batch = await claimed(store)
        assert (batch.attempt, batch.root, batch.platform, batch.group) == (1, batch.number, "shop", "")
        assert batch.id.startswith("b")
        assert [(item.attempts, item.spent, item.first_sent_at) for item in batch.items] == [(0, 0, 0.0)] * 2
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.in_flight, found.batch, found.attempt_count) == (
            "pending", True, batch.id, 1,
        )  # fmt: skip
        assert found.attempts[0].outcome is None
        assert (await refused(store)).reason == "idle"

    async def test_one_of_a_key_at_a_time(self, harness: Harness) -> None:
        """Only the first callback of a key is claimed; the next follows its settle, in order of acceptance."""
        store = await harness.open(rules())
        await post(store, *(note(b"%s%d" % (key, n), key=key.decode()) for n in range(3) for key in (b"a", b"b")))
        for n in range(3):
            batch = await claimed(store)
            assert sorted(payloads(batch)) == [b"a%d" % n, b"b%d" % n]
            assert (await refused(store)).reason == "idle"
            await deliver(store, batch, harness.clock)

    async def test_retry_keeps_its_key_waiting(self, harness: Harness) -> None:
        """While a key's first callback waits for its retry nothing of the key goes; other keys do."""
        store = await harness.open(rules())
        await post(store, note(b"a1", key="a"), note(b"a2", key="a"))
        await requeue(store, await claimed(store), harness.clock, after_s=10)
        await post(store, note(b"b1", key="b"))
        await deliver(store, await claimed(store), harness.clock)
        assert await refused(store) == WaitUntil(harness.clock.now() + 10, "retry")
        harness.clock.advance(10)
        assert payloads(await claimed(store)) == [b"a1"]

    async def test_packs_by_what_a_callback_takes_in_a_body(self, harness: Harness) -> None:
        """A callback that takes more or less than its length in the platform's form is packed by that."""
        store = await harness.open(rules())
        long, short = note(b"x" * 10)._replace(body_bytes=30), note(b"x" * 50)._replace(body_bytes=10)
        accepted = await post(store, long, long, short)
        assert [item.payload for item in (await claimed(store, request(max_bytes=2 + 31 + 30))).items] == [long.payload]
        two = await claimed(store, request(max_bytes=2 + 31 + 11))
        assert payloads(two) == [long.payload, short.payload]
        assert [(await shown(store, callback_id)).bytes for callback_id in accepted.ids] == [30, 30, 10]

    async def test_bounds_of_a_batch(self, harness: Harness) -> None:
        """A batch keeps within max_items and, with frame and separators, within max_bytes."""
        store = await harness.open(rules())
        await post(store, *(note(bytes([48 + n]) * 10) for n in range(7)))
        assert len((await claimed(store, request(max_items=3))).items) == 3
        assert len((await claimed(store, request(max_bytes=2 + 3 * 11 - 1))).items) == 2
        assert len((await claimed(store, request(max_bytes=2 + 2 * 11))).items) == 2

    async def test_too_large_goes_alone(self, harness: Harness) -> None:
        """An item that no longer fits any batch goes alone and keeps nothing behind it waiting."""
        store = await harness.open(rules())
        await post(store, note(b"small"), note(b"x" * 500), note(b"tiny"))
        wanted = request(max_bytes=100)
        assert payloads(await claimed(store, wanted)) == [b"small"]
        assert payloads(await claimed(store, wanted)) == [b"x" * 500]
        assert payloads(await claimed(store, wanted)) == [b"tiny"]

    async def test_lanes_take_turns(self, harness: Harness) -> None:
        """Each lane leads in its turns, and within a lane the oldest due goes first."""
        store = await harness.open(rules())
        await post(store, *(note(b"low%d" % n, lane=Lane.LOW) for n in range(2)))
        await post(store, *(note(b"normal%d" % n) for n in range(2)), *(note(b"high", lane=Lane.HIGH),))
        lead = {lane_order(turn)[0]: turn for turn in range(10)}
        assert payloads(await claimed(store, request(max_items=1, turn=lead[Lane.LOW]))) == [b"low0"]
        assert payloads(await claimed(store, request(max_items=1, turn=lead[Lane.NORMAL]))) == [b"normal0"]
        assert payloads(await claimed(store, request(turn=lead[Lane.HIGH]))) == [b"high", b"normal1", b"low1"]

    async def test_head_inherits_priority(self, harness: Harness) -> None:
        """A key's first callback goes with the highest priority that waits behind it."""
        store = await harness.open(rules())
        await post(store, note(b"other"), note(b"first", key="k", lane=Lane.LOW))
        await post(store, note(b"urgent", key="k", lane=Lane.HIGH))
        batch = await claimed(store, request(max_items=1))
        assert payloads(batch) == [b"first"]
        await deliver(store, batch, harness.clock)
        assert payloads(await claimed(store, request(max_items=1))) == [b"urgent"]

    async def test_groups_do_not_mix(self, harness: Harness) -> None:
        """A batch holds one group, and each group of a quota kept per group has its own slots."""
        store = await harness.open(rules(rate=Rate(1, 60.0), per_group=True))
        await post(store, *(note(b"%s%d" % (group.encode(), n), group=group) for group in "ab" for n in range(2)))
        assert payloads(await claimed(store, request(group="a", max_items=1))) == [b"a0"]
        assert (await refused(store, request(group="a", max_items=1))).reason == "limit"
        assert payloads(await claimed(store, request(group="b"))) == [b"b0", b"b1"]

    async def test_limit_counts_from_the_answer(self, harness: Harness) -> None:
        """A slot is free one window after its answer, not after its send; until the answer there is no time for it."""
        store = await harness.open(rules(rate=Rate(2, 60.0)))
        await post(store, *(note(b"%d" % n) for n in range(6)))
        one = request(max_items=1)
        first, second = await claimed(store, one), await claimed(store, one)
        assert await refused(store, one) == WaitUntil(NEVER, "limit")
        answered_at = harness.clock.advance(5)
        await deliver(store, second, harness.clock)
        assert await refused(store, one) == WaitUntil(answered_at + 60, "limit")
        harness.clock.advance(20)
        await deliver(store, first, harness.clock)
        harness.clock.advance_to(answered_at + 59.75)
        assert (await refused(store, one)).at == answered_at + 60
        harness.clock.advance_to(answered_at + 60)
        await claimed(store, one)
        assert await refused(store, one) == WaitUntil(answered_at + 80, "limit")

    async def test_partial_batches_keep_the_pace(self, harness: Harness) -> None:
        """The first partial batch goes at once, the next one pace later; a full one needs only a slot."""
        store = await harness.open(rules(rate=Rate(60, 60.0)))
        await post(store, note(b"1"))
        await deliver(store, await claimed(store, request(max_items=3)), harness.clock)
        await post(store, note(b"2"))
        wait = await refused(store, request(max_items=3))
        assert wait == WaitUntil(harness.clock.now() + 1, "pace", missing=2)
        await post(store, note(b"3"), note(b"4"))
        assert len((await claimed(store, request(max_items=3))).items) == 3
        await post(store, note(b"5"))
        harness.clock.advance(1)
        assert payloads(await claimed(store, request(max_items=3))) == [b"5"]

    async def test_linger_counts_from_the_oldest(self, harness: Harness) -> None:
        """``linger`` waits from the oldest ready item, beside the pace: the longer of the two."""
        store = await harness.open(rules(rate=Rate(60, 60.0)))
        accepted_at = harness.clock.now()
        await post(store, note(b"1"))
        harness.clock.advance(0.5)
        await post(store, note(b"2"))
        wanted = request(linger_s=2.0)
        assert await refused(store, wanted) == WaitUntil(accepted_at + 2, "linger", missing=98)
        harness.clock.advance(1.5)
        await deliver(store, await claimed(store, wanted), harness.clock)
        await post(store, note(b"3"))
        assert await refused(store, request(linger_s=0.5)) == WaitUntil(harness.clock.now() + 1, "pace", missing=99)

    async def test_probe_does_not_gather(self, harness: Harness) -> None:
        """A probe takes what there is at once, but never without a slot."""
        store = await harness.open(rules(rate=Rate(2, 60.0)))
        await post(store, note(b"1"), note(b"2"), note(b"3"))
        for _ in range(2):
            batch = await claimed(store, request(max_items=1, linger_s=9.0, probe=True))
            assert batch.probe
            await deliver(store, batch, harness.clock)
        assert (await refused(store, request(max_items=1, probe=True))).reason == "limit"

    async def test_burst(self, harness: Harness) -> None:
        """With ``burst: 3`` three requests go back to back, then one per W/N."""
        store = await harness.open(rules(rate=Rate(60, 60.0), burst=3))
        await post(store, *(note(b"%d" % n) for n in range(6)))
        for _ in range(3):
            await deliver(store, await claimed(store, request(max_items=1)), harness.clock)
        assert await refused(store, request(max_items=1)) == WaitUntil(harness.clock.now() + 1, "limit")
        harness.clock.advance(1)
        await claimed(store, request(max_items=1))

    async def test_resend_is_the_same_batch(self, harness: Harness) -> None:
        """A re-send has the same id and membership, counts its attempts, waits for its time and takes a slot."""
        store = await harness.open(rules(rate=Rate(2, 60.0)))
        await post(store, note(b"1"), note(b"2"))
        first = await claimed(store)
        await resend(store, first, harness.clock, after_s=4)
        assert (await refused(store)).at == harness.clock.now() + 4
        sent_at = harness.clock.now()
        harness.clock.advance(4)
        again = await claimed(store)
        assert (again.id, again.number, seqs(again), again.attempt) == (first.id, first.number, seqs(first), 2)
        assert again.attempt_id != first.attempt_id
        assert [(item.attempts, item.spent, item.first_sent_at) for item in again.items] == [(1, 1, sent_at)] * 2
        assert all(item.maybe_applied for item in again.items)
        await post(store, note(b"3"))
        assert (await refused(store)).reason == "limit"

    async def test_resend_has_the_turns_of_retries(self, harness: Harness) -> None:
        """Due re-sends go when the retry lane leads; in other turns fresh work goes first."""
        store = await harness.open(rules())
        await post(store, note(b"1"))
        failed = await claimed(store)
        await resend(store, failed, harness.clock, after_s=0)
        await post(store, note(b"2"), note(b"3"))
        turns = {lane_order(turn)[0]: turn for turn in range(10)}
        assert payloads(await claimed(store, request(max_items=1, turn=turns[Lane.NORMAL]))) == [b"2"]
        assert (await claimed(store, request(max_items=1, turn=turns[Lane.RETRY]))).id == failed.id

    async def test_probe_prefers_other_keys(self, harness: Harness) -> None:
        """A probe takes fresh work before a frozen batch, and that when there is nothing else."""
        store = await harness.open(rules())
        await post(store, note(b"1"))
        failed = await claimed(store)
        await resend(store, failed, harness.clock, after_s=0)
        await post(store, note(b"2"))
        turn = next(turn for turn in range(10) if lane_order(turn)[0] is Lane.RETRY)
        assert payloads(await claimed(store, request(turn=turn, probe=True))) == [b"2"]
        assert (await claimed(store, request(turn=turn, probe=True))).id == failed.id

    async def test_expired_is_never_claimed(self, harness: Harness) -> None:
        """A callback past its time is not sent, even before it was ended."""
        store = await harness.open(rules())
        await post(store, note(b"1", expires_s=5), note(b"2", expires_s=50))
        harness.clock.advance(5)
        assert payloads(await claimed(store)) == [b"2"]

    async def test_shared_quota_takes_turns(self, harness: Harness) -> None:
        """On a shared quota a platform that waits goes before one that has just sent."""
        store = await harness.open(rules("a", "b", shared=Rate(1, 10.0)))
        await post(store, *(note(platform=platform) for platform in "ab" for _ in range(20)))
        sent: list[str] = []
        one = {platform: request(platform, max_items=1) for platform in "ab"}
        for _ in range(8):
            for platform in "aab":  # a asks twice as often and always first
                got = await store.claim(one[platform])
                if not isinstance(got, WaitUntil):
                    sent.append(platform)
                    await deliver(store, got, harness.clock)
            harness.clock.advance(10)
        assert sent == list("abababab")

    async def test_vanished_waiter_blocks_nobody(self, harness: Harness) -> None:
        """A platform that waited and does not come back holds others up for the grace at most."""
        store = await harness.open(rules("a", "b", shared=Rate(1, 10.0)))
        await post(store, *(note(platform=platform) for platform in "ab" for _ in range(3)))
        one = request("a", max_items=1)
        await deliver(store, await claimed(store, one), harness.clock)
        await refused(store, request("b", max_items=1))
        harness.clock.advance(10)
        assert await refused(store, one) == WaitUntil(harness.clock.now() + GRACE_S, "share")
        harness.clock.advance(GRACE_S)
        await claimed(store, one)

    async def test_waiters_are_woken(self, harness: Harness) -> None:
        """Who waits for an answer, or for another's turn, is told when it came."""
        store = await harness.open(rules("a", "b", shared=Rate(1, 10.0)))
        await post(store, *(note(platform=platform) for platform in "ab" for _ in range(3)))
        heard: list[str] = []
        store.watch(lambda platform, count: heard.append(platform))
        first = await claimed(store, request("a", max_items=1))
        assert (await refused(store, request("b", max_items=1))).at == NEVER
        heard.clear()
        await deliver(store, first, harness.clock)
        await until(lambda: "b" in heard)
        harness.clock.advance(10)
        assert (await refused(store, request("a", max_items=1))).reason == "share"
        heard.clear()
        await claimed(store, request("b", max_items=1))
        await until(lambda: "a" in heard)

    async def test_limits_change_at_once(self, harness: Harness) -> None:
        """A reload counts what was sent: a lower limit waits for it, another window finds it, a higher one goes on."""
        store = await harness.open(rules(rate=Rate(4, 60.0)))
        await post(store, *(note(b"%d" % n) for n in range(20)))
        one = request(max_items=1)
        for _ in range(3):
            await deliver(store, await claimed(store, one), harness.clock)
            harness.clock.advance(1)
        sent_at = harness.clock.now() - 3
        await store.configure(rules(rate=Rate(2, 60.0)))
        assert await refused(store, one) == WaitUntil(sent_at + 1 + 60, "limit")
        await store.configure(rules(rate=Rate(3, 120.0)))
        assert await refused(store, one) == WaitUntil(sent_at + 120, "limit")
        await store.configure(rules(rate=Rate(5, 60.0)))
        under_way = await claimed(store, one)
        await store.configure(rules(rate=Rate(4, 30.0)))
        assert await refused(store, one) == WaitUntil(sent_at + 30, "limit")
        await deliver(store, under_way, harness.clock)
        assert (await store.platform_status())["shop"].quotas == [
            QuotaUse("shop", 30.0, limit=4, used=4, free_at=Instant(sent_at + 30), uses=SlotUses(first=4))
        ]

    async def test_a_slot_says_what_it_was_used_for(self, harness: Harness) -> None:
        """A first try, the same batch again, a probe, and the other platform of the quota; also when it is rebuilt."""
        store = await harness.open(rules("a", "b", shared=Rate(10, 600.0)))
        await post(store, note(platform="a"))
        again = await claimed(store, request("a", max_items=1))
        await resend(store, again, harness.clock, after_s=60)
        harness.clock.advance(60)
        again = await claimed(store, request("a", max_items=1))
        await post(store, *(note(platform=platform) for platform in "aab"))
        await deliver(store, again, harness.clock)
        await deliver(store, await claimed(store, request("a", max_items=1)), harness.clock)
        await deliver(store, await claimed(store, request("a", max_items=1, probe=True)), harness.clock)
        await deliver(store, await claimed(store, request("b", max_items=1)), harness.clock)

        async def uses(platform: str) -> SlotUses:
            return (await store.platform_status())[platform].quotas[0].uses

        seen_by_a, seen_by_b = SlotUses(first=2, resend=1, probe=1, others=1), SlotUses(first=1, others=4)
        assert (await uses("a"), await uses("b")) == (seen_by_a, seen_by_b)
        await store.configure(rules("a", "b", shared=Rate(10, 900.0)))
        assert (await uses("a"), await uses("b")) == (seen_by_a, seen_by_b)

    async def test_one_platform_is_limited_while_running(self, harness: Harness) -> None:
        """Quotas set beside the configured ones are strict over what was sent, and stay over a reload; for it alone."""
        store = await harness.open(rules("a", "b", rate=Rate(10, 60.0)))
        await post(store, *(note(platform=platform) for platform in "ab" for _ in range(9)))
        sent_at = harness.clock.now()
        for platform in "aabb":
            await deliver(store, await claimed(store, request(platform, max_items=1)), harness.clock)
        await store.set_quotas("a", [Quota("found:a", (Rate(2, 30.0),))])
        assert await refused(store, request("a", max_items=1)) == WaitUntil(sent_at + 30, "limit")
        await deliver(store, await claimed(store, request("b", max_items=1)), harness.clock)
        await store.configure(rules("a", "b", rate=Rate(9, 60.0)))
        assert await refused(store, request("a", max_items=1)) == WaitUntil(sent_at + 30, "limit")
        await store.set_quotas("a", [Quota("found:a", (Rate(3, 30.0),))])
        await deliver(store, await claimed(store, request("a", max_items=1)), harness.clock)
        assert await refused(store, request("a", max_items=1)) == WaitUntil(sent_at + 30, "limit")
        assert await quota_names(store) == {"a": ["a", "found:a"], "b": ["b"]}
        await store.set_quotas("a", [])
        assert await quota_names(store) == {"a": ["a"], "b": ["b"]}
        await claimed(store, request("a", max_items=1))

    async def test_a_platform_takes_the_quotas_set_for_it_along(self, harness: Harness) -> None:
        """A reload without the platform ends them, and what is set for it afterwards is ignored."""
        store = await harness.open(rules("a", "b", rate=Rate(10, 60.0)))
        found = [Quota("found:a", (Rate(2, 30.0),))]
        await store.set_quotas("a", found)
        await store.configure(rules("b", rate=Rate(10, 60.0)))
        await store.set_quotas("a", found)
        await store.configure(rules("a", "b", rate=Rate(10, 60.0)))
        assert await quota_names(store) == {"a": ["a"], "b": ["b"]}

    async def test_quota_shared_from_now_on_counts_both(self, harness: Harness) -> None:
        """A quota's log is rebuilt from what the platforms that now name it have sent."""
        store = await harness.open(rules("a", "b"))
        await post(store, *(note(platform=platform) for platform in "ab" for _ in range(3)))
        for platform in "ab":
            await deliver(store, await claimed(store, request(platform, max_items=1)), harness.clock)
        await store.configure(rules("a", "b", shared=Rate(2, 10.0)))
        assert await refused(store, request("a")) == WaitUntil(harness.clock.now() + 10, "limit")

    async def test_who_joins_a_quota_brings_its_sends(self, harness: Harness) -> None:
        """A platform that joins a quota in force counts at once with what it sent before, also with what is out."""
        store = await harness.open(rules("a", shared=Rate(3, 10.0)))
        await post(store, *(note(platform=platform) for platform in "ab" for _ in range(3)))
        under_way = await claimed(store, request("b", max_items=1))
        for platform in "ab":
            await deliver(store, await claimed(store, request(platform, max_items=1)), harness.clock)
        await store.configure(rules("a", "b", shared=Rate(3, 10.0)))
        assert await refused(store, request("a")) == WaitUntil(harness.clock.now() + 10, "limit")
        harness.clock.advance(5)
        await deliver(store, under_way, harness.clock)
        harness.clock.advance(5)
        used = (await store.platform_status())["b"].quotas[0].used
        assert used == 1

    async def test_split_parts_go_first(self, harness: Harness) -> None:
        """Parts of a split are frozen batches of their own, due at once, before other re-sends, with their root."""
        store = await harness.open(rules())
        await post(store, note(b"0"), note(b"1"), note(b"2"), note(b"3"), note(b"4"))
        other = await claimed(store, request(max_items=1))
        await store.settle(settlement(other, harness.clock, resend=Resend(harness.clock.now(), False, "x")))
        turn = next(turn for turn in range(10) if lane_order(turn)[0] is Lane.NORMAL)
        batch = await claimed(store, request(turn=turn))
        halves = [seqs(batch)[:2], seqs(batch)[2:]]
        await store.settle(settlement(batch, harness.clock, split=halves))
        parts = [await claimed(store), await claimed(store)]
        assert [seqs(part) for part in parts] == halves
        assert [part.root for part in parts] == [batch.number] * 2
        assert len({batch.id, *(part.id for part in parts)}) == 3
        assert [part.attempt for part in parts] == [1, 1]
        again = seqs(parts[0])[:1]
        rest = Requeue(seqs(parts[0])[1:], harness.clock.now() + 9, False, "x")
        await store.settle(settlement(parts[0], harness.clock, split=[again], requeue=[rest]))
        smaller = await claimed(store)
        assert (seqs(smaller), smaller.root) == (again, batch.number)
        assert (await claimed(store)).id == other.id
