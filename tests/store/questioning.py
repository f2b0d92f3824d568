"""Conformance: requests that carry no callback take slots as batches do."""

from relay.core.model import Batch, Outcome, Rate, WaitUntil
from relay.store.base import Store
from tests.store.harness import Harness, RestartHarness, claimed, note, post, refused, request, rules, settlement


async def reserved(store: Store) -> Batch:
    """Take a slot for a question; it must be free."""
    batch = await store.reserve("shop")
    assert isinstance(batch, Batch), batch
    return batch


class QuestioningConformance:
    async def test_a_question_takes_a_slot(self, harness: Harness) -> None:
        """A question uses up the limit, a claim uses it up for questions, and each slot comes back after its answer."""
        store = await harness.open(rules(rate=Rate(2, 60.0)))
        question = await reserved(store)
        assert question.items == []
        await post(store, note(b"1"), note(b"2"))
        batch = await claimed(store, request(probe=True))
        assert len(batch.items) == 2
        assert isinstance(await store.reserve("shop"), WaitUntil)
        await store.settle(settlement(question, harness.clock))
        harness.clock.advance(60.5)
        assert isinstance(await store.reserve("shop"), Batch)

    async def test_a_question_is_never_sent_again(self, harness: Harness) -> None:
        """Settled or not, no claim hands it out, and a second settle does nothing."""
        store = await harness.open(rules())
        question = await reserved(store)
        assert (await refused(store)).reason == "idle"
        failed = settlement(question, harness.clock, outcome=Outcome.RETRY, ambiguous=True)
        await store.settle(failed)
        await store.settle(failed)
        harness.clock.advance(3600.0)
        assert (await refused(store)).reason == "idle"

    async def test_questions_are_pruned(self, harness: Harness) -> None:
        """Nothing of a question is left when it is older than every window and all that is kept."""
        store = await harness.open(rules(keep_delivered_s=60.0, keep_dead_s=60.0))
        await store.settle(settlement(await reserved(store), harness.clock))
        harness.clock.advance(400 * 86400.0)
        while await store.prune():
            pass
        assert (await refused(store)).reason == "idle"


class DurableQuestioningConformance:
    async def test_a_question_counts_over_a_crash(self, harness: RestartHarness) -> None:
        """A question under way at a kill keeps its slot for a whole window, and goes to nobody again."""
        store = await harness.open(rules(rate=Rate(1, 60.0)))
        await reserved(store)
        store = await harness.reopen(rules(rate=Rate(1, 60.0)))
        assert isinstance(await store.reserve("shop"), WaitUntil)
        harness.clock.advance(60.5)
        await post(store, note(b"1"))
        assert len((await claimed(store)).items) == 1
