"""No window of items, bytes or points is ever exceeded, and no calendar window, whatever the network does (I8)."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay.core.calendar import Calendar
from relay.core.model import Rate, Weight
from relay.policy.weighed_window import HeldWeight, WeighedWindow

TICK = 1 / 64
DAY = Calendar("day", 8 * 3600)
HOUR = Calendar("hour", 0)
ticks = st.integers(0, 320).map(lambda n: n * TICK)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), ticks, st.floats(0, 1), st.integers(1, 9)),
        st.tuples(st.just("send"), ticks, st.floats(0, 1), st.integers(1, 9)),
        st.tuples(st.just("advance"), ticks),
        st.tuples(st.just("rebuild")),
        st.tuples(st.just("crash")),
    ),
    max_size=80,
)


class Sender:
    """Sends what fits; each request arrives and is answered when the test says."""

    def __init__(self, rate: Rate, at: float) -> None:
        self.rate = rate
        self.now = at
        self.window = WeighedWindow(rate, lambda: 0.0)
        self.arrivals: list[tuple[float, int]] = []  # when, weight
        self.open: dict[int, tuple[float, float, float]] = {}  # token -> sent, arrives, answered
        self.kept: list[HeldWeight] = []

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        for token, (sent_at, _, at) in sorted(self.open.items(), key=lambda entry: entry[1][2]):
            if at <= until:
                del self.open[token]
                self.kept.append(HeldWeight(token, at, at - sent_at, 0, Weight(items=self.arrivals[token][1])))
                self.window.release(token, at, at - sent_at)
        self.now = until

    def send(self, delay_s: float, part: float, items: int) -> None:
        items = min(items, self.window.left(self.now))
        if not items:
            return
        assert self.window.room_at(self.now, items) == self.now
        token = len(self.arrivals)
        self.window.take(token, 0, Weight(items=items))
        arrives_at = self.now + math.floor(delay_s * part / TICK) * TICK
        self.arrivals.append((arrives_at, items))
        self.open[token] = self.now, arrives_at, self.now + delay_s

    def rebuild(self) -> None:
        """Begin with a new window, as a reload does."""
        under_way = [HeldWeight(token, None, 0.0, 0, Weight(items=self.arrivals[token][1])) for token in self.open]
        used = self.window.used(self.now)
        self.window = WeighedWindow(self.rate, lambda: 0.0)
        self.window.restore([*self.kept, *under_way], self.now)
        assert self.window.used(self.now) == used

    def crash(self) -> None:
        """Lose what is under way: it counts as answered now, and what did not arrive by now never does."""
        for token, (sent_at, arrives_at, _) in list(self.open.items()):
            if arrives_at > self.now:
                self.arrivals[token] = (math.inf, 0)
            del self.open[token]
            self.kept.append(HeldWeight(token, self.now, self.now - sent_at, 0, Weight(items=self.arrivals[token][1])))
        self.window = WeighedWindow(self.rate, lambda: 0.0)
        self.window.restore(self.kept, self.now)


def run(sender: Sender, script: list[tuple]) -> None:
    """Let the sender do what a script says."""
    for name, *arguments in script:
        getattr(sender, name)(*arguments)


@given(st.integers(1, 20), st.integers(1, 256).map(lambda n: n * TICK), steps)
def test_never_more_than_the_limit_in_any_window(limit: int, window_s: float, script: list[tuple]) -> None:
    """Of items of mixed batches no window of W seconds ever holds more than N, over crashes and reloads."""
    sender = Sender(Rate(limit, window_s, "items"), 0.0)
    run(sender, script)
    for end, _ in sender.arrivals:
        inside = sum(items for at, items in sender.arrivals if end - window_s < at <= end < math.inf)
        assert inside <= limit


@given(st.integers(1, 20), st.integers(0, 640).map(lambda n: n * TICK), steps)
def test_never_more_than_the_limit_in_a_period(limit: int, before_s: float, script: list[tuple]) -> None:
    """Around a full hour neither the old nor the new hour holds more than N, wherever requests arrive."""
    hour = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
    sender = Sender(Rate(limit, 3600.0, "items", HOUR), hour - before_s)
    run(sender, script)
    old = sum(items for at, items in sender.arrivals if at < hour)
    new = sum(items for at, items in sender.arrivals if hour <= at < math.inf)
    assert max(old, new) <= limit


def test_a_day_begins_at_midnight_there() -> None:
    """``3/day@+08:00``: what was used up is free one answer time after 16:00 UTC, not 24 hours later."""
    midnight = datetime(2026, 11, 29, 16, tzinfo=UTC).timestamp()
    window = WeighedWindow(Rate(3, 86400.0, calendar=DAY), lambda: 0.0)
    for token in range(3):
        window.take(token, 0, Weight())
        window.release(token, midnight - 60.0 + token, 0.5)
    assert window.room_at(midnight - 1.0, 1) == midnight + 0.5
    assert window.left(midnight + 0.5) == 3


def test_what_is_on_its_way_at_midnight_counts_on_both_days() -> None:
    """A request sent before midnight and answered after it holds its slot of the new day."""
    midnight = datetime(2026, 11, 29, 16, tzinfo=UTC).timestamp()
    window = WeighedWindow(Rate(1, 86400.0, calendar=DAY), lambda: 0.0)
    window.take(1, 0, Weight())
    window.release(1, midnight + 1.0, 2.0)
    assert window.room_at(midnight + 1.0, 1) == midnight + 86400.0 + 2.0


@pytest.mark.parametrize(
    ("calendar", "at", "end"),
    [
        (DAY, datetime(2026, 11, 29, 15, 59, tzinfo=UTC), datetime(2026, 11, 29, 16, tzinfo=UTC)),
        (DAY, datetime(2026, 11, 29, 16, 0, tzinfo=UTC), datetime(2026, 11, 30, 16, tzinfo=UTC)),
        (Calendar("month", -5 * 3600), datetime(2028, 3, 1, 4, tzinfo=UTC), datetime(2028, 3, 1, 5, tzinfo=UTC)),
        (Calendar("month", 0), datetime(2026, 12, 31, 4, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (Calendar("hour", 19800), datetime(2026, 12, 31, 4, 31, tzinfo=UTC), datetime(2026, 12, 31, 5, 30, tzinfo=UTC)),
    ],
)
def test_periods(calendar: Calendar, at: datetime, end: datetime) -> None:
    """A period ends by the clock of its place."""
    assert calendar.end(at.timestamp()) == end.timestamp()


def test_bytes_are_corrected_by_what_was_sent() -> None:
    """Until the answer the body before compression is held, after it what went over the wire."""
    window = WeighedWindow(Rate(1000, 60.0, "bytes"), lambda: 0.0)
    window.take(1, 0, Weight(bytes=900))
    assert window.left(0.0) == 100
    window.release(1, 1.0, 1.0, 300)
    assert window.left(1.0) == 700
    assert window.room_at(1.0, 800) == 61.0


def test_what_is_heavier_than_the_window_goes_when_it_is_empty() -> None:
    """After a reload to a smaller limit a frozen batch still goes, alone."""
    window = WeighedWindow(Rate(10, 60.0, "items"), lambda: 0.0)
    window.take(1, 0, Weight(items=1))
    assert window.room_at(0.0, 50) == math.inf
    window.release(1, 1.0, 1.0)
    assert window.room_at(1.0, 50) == 61.0
    window.forget(1)
    assert window.room_at(61.0, 50) == 61.0
