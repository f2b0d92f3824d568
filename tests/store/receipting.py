"""Conformance: every end of a callback, and its being held, queues one receipt in the same commit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from relay.core.model import Filter, Outcome, State, StoreRules
from relay.core.receipts import OCCASIONS, RECEIPTS, ReceiptRules
from relay.core.settlement import Ending
from relay.store.base import Store
from tests.store.harness import (
    Harness,
    RestartHarness,
    balanced,
    bury,
    claimed,
    deliver,
    hold,
    note,
    operate,
    payloads,
    post,
    request,
    resend,
    routed,
    rules,
    seqs,
    settlement,
    special,
    unrouted,
)


def told(*platforms: str, on: Sequence[str] = OCCASIONS, given: StoreRules | None = None, **more: Any) -> StoreRules:
    """Rules with receipts of ``on``."""
    plain = given or rules(*(platforms or ("shop",)), RECEIPTS)
    return replace(plain, receipts=ReceiptRules(on=frozenset(on), **more))


async def receipts(store: Store) -> list[dict[str, Any]]:
    """Return what the receipts queued so far say, in the order they were queued; they stay as they are."""
    found, _ = await store.callbacks(Filter(platform=RECEIPTS), cursor=None, limit=1000)
    told = [await store.callback(each.id, payload=True) for each in reversed(found)]
    return [msgspec.json.decode(each.payload) for each in told if each is not None]


async def states_told(store: Store) -> list[tuple[str, str, str]]:
    """Return state, reason and id of each receipt."""
    return [(each["state"], each["reason"], each["id"]) for each in await receipts(store)]


class ReceiptingConformance:
    async def test_a_receipt_says_all_but_the_payload(self, harness: Harness) -> None:
        """All its fields; the order center's own words and contexts come back in it."""
        store, clock = await harness.open(told()), harness.clock
        row = note(b'{"secret": 1}', key="991", event="paid", idempotency_key="once")
        trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
        (first, second) = (
            await post(store, row._replace(traceparent=trace, reference="line 7"), note(b"{}", key="992"))
        ).ids
        batch = await claimed(store)
        clock.advance(2)
        ending = Ending(seqs(batch)[:1], State.DEAD, "rejected: 400", maybe_applied=True, code="1006", message="no")
        await store.settle(
            settlement(batch, clock, Outcome.REJECT, endings=[ending], delivered=seqs(batch)[1:], reason="200 OK")
        )
        found = await receipts(store)
        at = found[0].pop("at")
        assert at == found[1].pop("at")
        assert at.endswith("Z")
        assert sorted(found, key=lambda each: str(each["key"])) == [
            {
                "id": first, "platform": "shop", "key": "991", "event": "paid", "idempotency_key": "once",
                "traceparent": trace, "state": "dead", "reason": "rejected: 400", "code": "1006", "attempts": 1,
                "maybe_applied": True, "reference": "line 7",
            },
            {
                "id": second, "platform": "shop", "key": "992", "event": None, "idempotency_key": None,
                "traceparent": None, "state": "delivered", "reason": "200 OK", "code": None, "attempts": 1,
                "maybe_applied": False,
            },
        ]  # fmt: skip
        (listed,), _ = await store.callbacks(Filter(platform=RECEIPTS, key="991"), cursor=None, limit=9)
        assert (listed.event, listed.state) == ("paid", "pending")
        assert (await balanced(store))[RECEIPTS].pending == 2

    async def test_every_way_to_end_is_told(self, harness: Harness) -> None:
        """Delivered, dead, expired alone and with its batch, dropped, ended by a person, held, resolved, blocking."""
        store, clock = await harness.open(told()), harness.clock
        ids = (await post(store, *(note(b"%d" % n, expires_s=1000.0 + n) for n in range(8)))).ids

        async def next_one() -> Any:
            return await claimed(store, request(max_items=1))

        await deliver(store, await next_one(), clock)
        await bury(store, await next_one(), clock)
        await hold(store, await next_one(), clock)
        await hold(store, await next_one(), clock)
        await operate(store, "resolve", Filter(ids=(ids[2],)), verdict="delivered")
        await operate(store, "resolve", Filter(ids=(ids[3],)), verdict="dead")
        await operate(store, "drop", Filter(ids=(ids[4],)))
        await operate(store, "expire", Filter(ids=(ids[5],)))
        await resend(store, await next_one(), clock, after_s=5000.0)
        clock.advance(2000)
        while (await store.expire()).more:
            pass
        assert await states_told(store) == [
            ("delivered", "", ids[0]),
            ("dead", "rejected", ids[1]),
            ("held", "", ids[2]),
            ("held", "", ids[3]),
            ("delivered", "resolved", ids[2]),
            ("dead", "resolved", ids[3]),
            ("dead", "dropped", ids[4]),
            ("expired", "operator", ids[5]),
            *sorted([("expired", "expired", ids[6]), ("expired", "expired", ids[7])], key=lambda each: each[2]),
        ]
        await balanced(store)

    async def test_the_receipt_of_a_forgotten_one_names_nobody(self, harness: Harness) -> None:
        """Its id and that it was forgotten: what was destroyed does not lie in a new place."""
        store = await harness.open(told())
        row = note(b"1", key="k", idempotency_key="once")._replace(reference="line 7")
        (callback_id,) = (await post(store, row)).ids
        await operate(store, "forget", Filter(key="k"))
        (found,) = await receipts(store)
        assert (found["id"], found["reason"], found["key"]) == (callback_id, "forgotten", None)
        assert (found["idempotency_key"], "reference" in found) == (None, False)
        assert (await store.callbacks(Filter(platform=RECEIPTS, key="k"), cursor=None, limit=9))[0] == []

    async def test_letting_go_of_what_was_held_is_no_receipt(self, harness: Harness) -> None:
        """It is held no more: nothing is told of that, nor of how it ends where only being held is to be told."""
        store, clock = await harness.open(told(on=("held",))), harness.clock
        ids = []
        for verdict in ("retry", "delivered", "dead"):
            ids += (await post(store, note())).ids
            await hold(store, await claimed(store), clock)
            await operate(store, "resolve", Filter(ids=(ids[-1],)), verdict=verdict)
            if verdict == "retry":
                await deliver(store, await claimed(store), clock)
        assert await states_told(store) == [("held", "", each) for each in ids]

    async def test_one_that_is_retried_ends_again(self, harness: Harness) -> None:
        """Each end has its receipt; going back to pending is none."""
        store, clock = await harness.open(told()), harness.clock
        (one,) = (await post(store, note())).ids
        await bury(store, await claimed(store), clock, "first")
        await operate(store, "retry", Filter(state="dead"))
        await bury(store, await claimed(store), clock, "second")
        await operate(store, "drop", Filter(state="dead", platform="shop"))  # its payload only
        assert await states_told(store) == [("dead", "first", one), ("dead", "second", one)]

    async def test_superseded_ones_are_told(self, harness: Harness) -> None:
        """By a newer one of the key; and by their targets, when a person has the routes asked again."""
        given = special(coalesce=True)
        given = replace(given, platforms={**given.platforms, RECEIPTS: rules().platforms["shop"]})
        store = await harness.open(told(given=given))
        ids = (await post(store, note(b"1", key="k"), note(b"2", key="k"))).ids
        stray = (await store.accept_posts([unrouted(b"3", idempotency_key="post")])).ids[0]["_unrouted"]
        await operate(store, "retry", Filter(state="dead"), reroute=lambda lost: [note(lost.payload)])
        found = await receipts(store)
        assert [(each["state"], each["reason"], each["id"]) for each in found] == [
            ("superseded", "coalesced", ids[0]),
            ("dead", "unrouted", stray),
            ("superseded", "rerouted", stray),
        ]
        assert [each["idempotency_key"] for each in found] == [None, "post", "post"]

    async def test_dead_from_the_start_and_fanned_out(self, harness: Harness) -> None:
        """One that can never be delivered is told at once; each target of a post has receipts of its own."""
        store = await harness.open(told("shop", "other"))
        (dead,) = (await post(store, note(dead_reason="no group"))).ids
        routes = routed("shop", "other", idempotency_key="post")
        rows = [row._replace(reference="r") for row in routes.rows]
        ids = (await store.accept_posts([routes._replace(rows=rows)])).ids[0]
        await operate(store, "drop", Filter(state="pending", platform="shop"))
        await operate(store, "drop", Filter(state="pending", platform="other"))
        found = await receipts(store)
        assert [(each["id"], each["platform"]) for each in found] == [
            (dead, "shop"),
            (ids["shop"], "shop"),
            (ids["other"], "other"),
        ]
        assert [(each["idempotency_key"], each.get("reference")) for each in found[1:]] == [("post", "r")] * 2

    async def test_only_what_is_asked_for(self, harness: Harness) -> None:
        """Of what ``on`` leaves out there is none; a change holds from then on; without receipts there are none."""
        store, clock = await harness.open(told(on=("dead",))), harness.clock
        await post(store, note(b"1"), note(b"2"), note(b"3"), note(b"4"))
        await deliver(store, await claimed(store, request(max_items=1)), clock)
        await bury(store, await claimed(store, request(max_items=1)), clock)
        await store.configure(told(on=("delivered", "held")))
        await deliver(store, await claimed(store, request(max_items=1)), clock)
        await store.configure(rules("shop", RECEIPTS))
        await deliver(store, await claimed(store, request(max_items=1)), clock)
        assert [state for state, _, _ in await states_told(store)] == ["dead", "delivered"]

    async def test_a_receipt_causes_none(self, harness: Harness) -> None:
        """However it ends itself."""
        store, clock = await harness.open(told(expires_s=50.0)), harness.clock
        await post(store, note(b"1"), note(b"2"), note(b"3"), note(b"4"))
        await deliver(store, await claimed(store), clock)
        for settle in (deliver, bury, hold):
            await settle(store, await claimed(store, request(RECEIPTS, max_items=1)), clock)
        clock.advance(51)
        await store.expire()
        assert len(await receipts(store)) == 4
        ledger = (await balanced(store))[RECEIPTS]
        assert (ledger.accepted, ledger.delivered, ledger.dead, ledger.expired) == (4, 1, 1, 1)

    async def test_receipts_of_a_key_go_in_order(self, harness: Harness) -> None:
        """Over all platforms: one at a time of a key, in the order in which the callbacks ended."""
        store, clock = await harness.open(told("shop", "other")), harness.clock
        await post(store, note(b"1", key="k"), note(b"2", platform="other", key="k"), note(b"3", key="else"))
        await deliver(store, await claimed(store, request("other")), clock)
        await deliver(store, await claimed(store), clock)
        sent = []
        for _ in range(2):
            batch = await claimed(store, request(RECEIPTS))
            sent.append({each["key"]: each["platform"] for each in map(msgspec.json.decode, payloads(batch))})
            await deliver(store, batch, clock)
        assert sent == [{"k": "other", "else": "shop"}, {"k": "shop"}]

    async def test_a_full_store_still_tells(self, harness: Harness) -> None:
        """A receipt is not refused for want of room: an end without one must not be."""
        full = replace(told(), max_size_bytes=4 * 1024 * 1024)
        store, clock = await harness.open(full), harness.clock
        await post(store, note(b"x" * 1000))
        await store.configure(replace(full, max_size_bytes=1))
        await bury(store, await claimed(store), clock)
        assert len(await receipts(store)) == 1

    async def test_a_size_of_its_own(self, harness: Harness) -> None:
        """What a receipt takes in a body is asked where the envelope adds to it."""
        store, clock = await harness.open(told(size=lambda payload, key, event: 900_000)), harness.clock
        await post(store, note(b"1"), note(b"2"))
        await deliver(store, await claimed(store), clock)
        assert len((await claimed(store, request(RECEIPTS))).items) == 1


class DurableReceiptingConformance:
    async def test_a_crash_loses_and_doubles_none(self, harness: RestartHarness) -> None:
        """What ended before it has its receipt; what ends after it gets one, without a word from the configuration."""
        store, clock = await harness.open(told()), harness.clock
        ids = (await post(store, *(note(b"%d" % n, idempotency_key=str(n)) for n in range(3)))).ids
        await bury(store, await claimed(store, request(max_items=1)), clock)
        store = await harness.reopen(told())
        await bury(store, await claimed(store, request(max_items=1)), clock)
        store = await harness.reopen(rules("shop", RECEIPTS))
        await bury(store, await claimed(store, request(max_items=1)), clock)
        found = await receipts(store)
        assert [(each["id"], each["idempotency_key"]) for each in found] == [(ids[0], "0"), (ids[1], "1")]
