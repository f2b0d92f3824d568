"""What those who may not see payloads see of receipts: the relay's own words, and nothing that a buyer brought."""

import threading
from collections.abc import Callable, Iterable

import pytest
from relay.admin.standing.sight import Sight
from relay.core.model import Filter, Outcome, State
from relay.core.receipts import RECEIPTS
from relay.core.settlement import AttemptResult, Ending, Settlement
from relay.privacy.echoes import without_values
from relay.privacy.views import Lenses
from relay.store.memory.backend import MemoryStore
from relay.views.live import StoppedGroupView
from relay.views.moments import Instant
from relay.views.platform import PlatformView, StoppedGroupsView
from relay.views.queue import ErrorView
from tests.clocks import FakeClock
from tests.store.harness import claimed, note, operate, post, request, seqs, settlement, special
from tests.store.receipting import told

BUYER = '{"order_id": "991-tea", "phone": "13812345678", "name": "张三丰"}'.encode()
ROW = note(BUYER, key="991-tea", idempotency_key="once-4711")._replace(reference="line 7")


@pytest.fixture
async def store() -> MemoryStore:
    """A store in which a receipt tells of every end."""
    made = MemoryStore(clock=FakeClock())
    await made.configure(told("shop"))
    return made


async def _refused(store: MemoryStore, clock: FakeClock, reason: str) -> None:
    """Accept an order and let the shop refuse it."""
    await post(store, ROW)
    batch = await claimed(store)
    await store.settle(settlement(batch, clock, Outcome.REJECT, endings=[Ending(seqs(batch), State.DEAD, reason)]))


async def _seen(store: MemoryStore, clock: FakeClock, answered: str) -> str:
    """Let the order center answer the receipt; return the reason that a viewer without a view sees of it."""
    batch = await claimed(store, request(platform=RECEIPTS))
    await store.settle(settlement(batch, clock, delivered=seqs(batch), reason=answered))
    found, _ = await store.callbacks(Filter(platform=RECEIPTS), cursor=None, limit=9)
    (shown,) = await Sight(store, Lenses((), {})).listed(None, found)
    return shown.reason


async def test_the_relays_own_words_in_a_receipt_are_no_secret(store: MemoryStore) -> None:
    """A receipt that says ``200 OK`` of its callback and is answered with 200 OK shows this reason."""
    clock = FakeClock()
    await _refused(store, clock, "200 OK")
    assert await _seen(store, clock, "200 OK") == "200 OK"


async def test_what_a_buyer_brought_is_masked_in_the_answer_to_a_receipt(store: MemoryStore) -> None:
    """Also what the reason in the receipt repeats of the payload, and what was posted beside it."""
    clock = FakeClock()
    await _refused(store, clock, "code=张三丰")
    assert await _seen(store, clock, "no 991-tea of 张三丰, once-4711, line 7") == "no *** of ***, ***, ***"


async def test_what_a_platform_said_last_is_masked_wherever_it_stands(store: MemoryStore) -> None:
    """Its words stand in the last error, in why the platform is in its state, and in why groups are stopped."""
    await post(store, ROW)
    batch = await claimed(store)
    words = "no 991-tea of 张三丰"
    stopped = StoppedGroupView(group="17", reason=words, until=Instant(60.0))
    stated = {
        "reason": words,
        "last_error": ErrorView(Instant(0.0), "throttled", 429, words, words, batch.id),
        "stopped_groups": StoppedGroupsView(1, [stopped]),
    }
    platform = PlatformView(**(dict.fromkeys(PlatformView.__struct_fields__) | stated))
    seen = await Sight(store, Lenses((), {})).platform(None, platform)
    assert isinstance(seen.last_error, ErrorView)
    (group,) = seen.stopped_groups.items
    assert {seen.reason, seen.last_error.reason, seen.last_error.excerpt, group.reason} == {"no *** of ***"}


async def test_all_words_of_a_receipt_are_masked_where_its_callback_has_no_payload_any_more(store: MemoryStore) -> None:
    """What they repeat of it cannot be told any more."""
    clock = FakeClock()
    await _refused(store, clock, "code=张三丰")
    await operate(store, "drop", Filter(platform="shop", state="dead"))
    assert await _seen(store, clock, "you said: code=张三丰") == "you said: ***"


async def test_why_a_callback_was_superseded_is_no_secret() -> None:
    """Its reason is the relay's own, also where it ends as a note in the payload begins."""
    store = MemoryStore(clock=FakeClock())
    await store.configure(special(coalesce=True))
    for number in range(2):
        await post(store, note(f'{{"note": "ed快递", "n": {number}}}'.encode(), key="991"))
    found, _ = await store.callbacks(Filter(state="superseded"), cursor=None, limit=9)
    (shown,) = await Sight(store, Lenses((), {})).listed(None, found)
    assert shown.reason == "coalesced"


async def test_a_platforms_words_are_hidden_once_a_payload_that_they_may_repeat_is_gone(store: MemoryStore) -> None:
    """Of two orders in one batch one is dropped: its words and the answer to both are hidden, also after a restart."""
    clock, other = FakeClock(), note(b'{"name": "Li Qingzhao"}', key="992")
    first, second = (await post(store, ROW, other)).ids
    batch = await claimed(store)
    said = "no 张三丰, no Li Qingzhao"
    result = AttemptResult(Outcome.REJECT, clock.now(), 0.1, 400, "400 Bad Request", excerpt=said)
    ending = Ending(seqs(batch), State.DEAD, "rejected: 400 Bad Request", message=said)
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))

    async def seen(callback_id: str) -> tuple[str, str, str]:
        found = await store.callback(callback_id)
        assert found is not None
        shown = await Sight(store, Lenses((), {})).callback(None, found)
        return shown.message, shown.attempts[0].excerpt, shown.reason

    cleaned = "no ***, no ***"
    assert await seen(first) == (cleaned, cleaned, "rejected: 400 Bad Request")
    await operate(store, "drop", Filter(ids=(first,)))
    assert await seen(first) == ("***", "***", "rejected: 400 Bad Request")
    assert (await seen(second))[1:] == ("***", "rejected: 400 Bad Request")


@pytest.mark.parametrize(("size", "beside"), [(100, False), (100_000, True)])
async def test_much_that_a_text_may_repeat_is_looked_through_in_a_thread(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, size: int, beside: bool
) -> None:
    """A batch of 2 MiB takes a second, in which deliveries go on."""
    threads: list[bool] = []

    def noted(payloads: Iterable[bytes]) -> Callable[[str], str]:
        threads.append(threading.current_thread() is not threading.main_thread())
        return without_values(payloads)

    monkeypatch.setattr("relay.privacy.views.without_values", noted)
    clock = FakeClock()
    (posted,) = (await post(store, note(b'{"name": "Li Qingzhao", "more": "%s"}' % (b"x" * size)))).ids
    batch = await claimed(store)
    ending = Ending(seqs(batch), State.DEAD, "rejected: no Li Qingzhao")
    result = AttemptResult(Outcome.REJECT, clock.now(), 0.1, 400, "no Li Qingzhao")
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))
    found = await store.callback(posted)
    assert found is not None
    assert (await Sight(store, Lenses((), {})).callback(None, found)).reason == "rejected: no ***"
    assert set(threads) == {beside}
