"""Conformance: callbacks that are sent once more as new ones."""

from relay.core.model import Filter, Outcome
from relay.store.base import Store
from relay.views.operation_view import OperationOptions, OperationView
from tests.store.harness import Harness, balanced, bury, claimed, deliver, note, payloads, post, rules, states


async def resend(store: Store, *ids: str, run: str = "r1") -> OperationView:
    """Carry the operation out on these callbacks."""
    options = OperationOptions(run=run, expires_s=77.0)
    wanted = Filter(platform="shop", ids=tuple(ids))
    started = await store.start_operation("resend", wanted, options=options, expect_count=None)
    return (await store.step_operation(started.id, 100)).progress


class ResendingConformance:
    async def test_what_was_delivered_goes_once_more(self, harness: Harness) -> None:
        """The same payload, key and event as a replay, with a fresh expiry; the first one stays delivered."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1", key="k", event="paid", idempotency_key="own"))
        await deliver(store, await claimed(store), harness.clock)
        assert (await resend(store, *accepted.ids)).done == 1
        batch = await claimed(store)
        assert payloads(batch) == [b"1"]
        assert [(item.key, item.event, item.id != accepted.ids[0]) for item in batch.items] == [("k", "paid", True)]
        assert batch.items[0].expires_at == harness.clock.now() + 77.0
        assert batch.replayed
        await deliver(store, batch, harness.clock)
        totals = (await balanced(store))["shop"]
        assert (totals.accepted, totals.delivered) == (2, 2)

    async def test_a_dead_one_is_superseded(self, harness: Harness) -> None:
        """The new callback stands for the dead one, which leaves the dead letters."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1"))
        await bury(store, await claimed(store), harness.clock)
        await resend(store, *accepted.ids)
        assert await states(store, accepted.ids) == ["superseded"]
        found = await store.callback(accepted.ids[0])
        batch = await claimed(store)
        assert found is not None
        assert found.superseded_by == batch.items[0].id
        await deliver(store, batch, harness.clock)
        totals = (await balanced(store))["shop"]
        assert (totals.accepted, totals.delivered, totals.dead, totals.superseded) == (2, 1, 0, 1)

    async def test_once_for_a_run(self, harness: Harness) -> None:
        """The same callback is repeated once for a run, however many operations ask; for another run once more."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1"))
        await deliver(store, await claimed(store), harness.clock)
        assert (await resend(store, *accepted.ids)).done == 1
        again = await resend(store, *accepted.ids)
        assert (again.done, again.skipped) == (0, {"resent": 1})
        assert (await resend(store, *accepted.ids, run="r2")).done == 1
        assert (await balanced(store))["shop"].pending == 2

    async def test_what_is_pending_or_overtaken_stays(self, harness: Harness) -> None:
        """A pending callback is no match, and a dead one with a newer delivered one of its key is skipped."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1", key="k"), note(b"2", key="k"))
        assert (await resend(store, *accepted.ids)).matched == 0
        await bury(store, await claimed(store), harness.clock, reason=Outcome.REJECT.value)
        await deliver(store, await claimed(store), harness.clock)
        assert (await resend(store, accepted.ids[0])).skipped == {"overtaken": 1}
