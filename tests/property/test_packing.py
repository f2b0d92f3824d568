"""Batches keep their bounds, lanes their shares, partial batches their pace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay.core.model import ClaimRequest, Lane, Rate
from relay.policy.batching import Packer, lane_order
from relay.policy.pacing import AnswerTime, Burst, longest_pace_s, pace_s


@given(st.integers(1, 20), st.integers(1, 500), st.integers(0, 20), st.integers(0, 5), st.lists(st.integers(0, 200)))
def test_packing_bounds(max_items: int, max_bytes: int, frame: int, each: int, sizes: list[int]) -> None:
    """A batch keeps within items and bytes unless its only item is too large; it is full when told so (I10)."""
    packer = Packer(ClaimRequest("p", "", max_items, max_bytes, frame, each, 0.0, 0))
    taken = []
    for size in sizes:
        if not packer.offer(size):
            assert packer.full
            assert packer.missing == 0
            break
        taken.append(size)
    assert packer.count == len(taken) <= max_items
    assert packer.bytes == frame + sum(size + each for size in taken)
    assert packer.bytes <= max_bytes or len(taken) <= 1
    if not packer.full:
        assert taken == sizes
        assert packer.missing == max_items - len(taken)


@given(
    st.integers(1, 20),
    st.integers(1, 500),
    st.integers(0, 20),
    st.lists(st.integers(1, 90)),
    st.lists(st.integers(1, 90), min_size=1),
)
def test_taking_all_at_once_is_taking_each(
    max_items: int, max_bytes: int, each: int, first: list[int], more: list[int]
) -> None:
    """All of a lane are taken at once exactly where each would be taken alone, with the same count, bytes and end."""
    request = ClaimRequest("p", "", max_items, max_bytes, 2, each, 0.0, 0)
    at_once, alone = Packer(request), Packer(request)
    for packer in (at_once, alone):
        for size in first:
            packer.offer(size)
    before = (at_once.count, at_once.bytes, at_once.full)
    took_all = all(alone.offer(size) for size in more)
    if at_once.offer_all(more):
        assert took_all
        assert (at_once.count, at_once.bytes, at_once.full) == (alone.count, alone.bytes, alone.full)
    else:
        assert not took_all or len(more) <= 1  # an item too large for any batch goes alone
        assert (at_once.count, at_once.bytes, at_once.full) == before


@given(st.integers(0, 10**9))
def test_lanes_keep_a_share(turn: int) -> None:
    """In any ten batches each lane leads once at least; every order names every lane once."""
    orders = [lane_order(turn + step) for step in range(10)]
    assert {order[0] for order in orders} == set(Lane)
    assert all(sorted(order) == list(Lane) for order in orders)
    assert all(list(order[1:]) == sorted(order[1:]) for order in orders)


def test_pace() -> None:
    """The pace is (W + answer)/N, the largest among windows up to 5 min; longer ones count when half used."""
    minute, second, day = Rate(100, 60.0), Rate(10, 1.0), Rate(1000, 86400.0)
    assert pace_s(minute, 0.5) == 0.605
    assert longest_pace_s([(second, 0), (minute, 0)], 0.0) == 0.6
    assert longest_pace_s([(minute, 0), (day, 500)], 0.0) == 0.6
    assert longest_pace_s([(minute, 0), (day, 501)], 0.0) == 86.4
    assert longest_pace_s([], 0.0) == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_answer_time_is_bounded(answers: list[float]) -> None:
    """The recent answer time never exceeds what was seen, nor a minute."""
    recent = AnswerTime()
    for answer_s in answers:
        recent.saw(answer_s)
    assert 0 <= recent.recent_s <= min(60.0, max(answers))


@given(st.integers(1, 10), st.lists(st.integers(0, 64).map(lambda n: n / 8), min_size=1, max_size=60))
def test_burst(burst: int, gaps: list[float]) -> None:
    """In any stretch of time no more go than the burst and one per W/N; after a long rest a whole burst may go."""
    bucket, now, sent = Burst(burst, [Rate(8, 8.0)]), 0.0, []
    for gap in gaps:
        now += gap
        if bucket.free_at(now) <= now:
            bucket.take(now)
            sent.append(now)
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= burst + (sent[last] - start) / 1.0
    now += 1000
    for _ in range(burst):
        assert bucket.free_at(now) == now
        bucket.take(now)
    assert bucket.free_at(now) == pytest.approx(now + 1)
