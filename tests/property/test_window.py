"""No window is ever exceeded, whatever the network and the operator do."""

import math

from hypothesis import given
from hypothesis import strategies as st
from relay.core.model import Rate
from relay.policy.strict_window import StrictWindow

# Times are multiples of 1/64 s, so that sums are exact and boundaries are hit.
TICK = 1 / 64
ticks = st.integers(0, 320).map(lambda n: n * TICK)
windows = st.integers(1, 256).map(lambda n: n * TICK)
rates = st.builds(Rate, st.integers(1, 6), windows)


class Sender:
    """Sends whenever every window allows it; each request arrives and is answered when the test says."""

    def __init__(self, limits: list[Rate]) -> None:
        self.now = 0.0
        self.limits = limits
        self.windows = [StrictWindow(rate) for rate in limits]
        self.arrivals: list[tuple[float, tuple[int, ...]]] = []  # when, and the limits in force when it was sent
        self.taken: dict[int, float] = {}
        self.open: dict[int, tuple[float, float]] = {}  # token -> answered at, answered at if cut off now
        self.answered: list[tuple[int, float]] = []

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        for token, (at, _) in sorted(self.open.items(), key=lambda entry: entry[1]):
            if at <= until:
                self.answer(token, at)
        self.now = until

    def answer(self, token: int, at: float) -> None:
        del self.open[token]
        self.answered.append((token, at))
        for window in self.windows:
            window.release(token, at)

    def send(self, delay_s: float, part: float) -> None:
        if any(window.free_at(self.now) > self.now for window in self.windows):
            return
        token = len(self.arrivals)
        for window in self.windows:
            window.take(token)
        arrives_at = self.now + math.floor(delay_s * part / TICK) * TICK
        self.arrivals.append((arrives_at, tuple(window.limit for window in self.windows)))
        self.open[token] = (self.now + delay_s, arrives_at)

    def resize(self, limit: int) -> None:
        self.windows[0].resize(limit)

    def rebuild(self) -> None:
        """Begin with new windows, as a reload does."""
        entries = [*((token, at, 0) for token, at in self.answered), *((token, None, 0) for token in self.open)]
        for index, window in enumerate(self.windows):
            self.windows[index] = fresh = StrictWindow(Rate(window.limit, window.window_s))
            fresh.restore(entries, self.now)

    def crash(self) -> None:
        """Lose what is under way: what arrived by now was answered for all we know, the rest never arrives."""
        for token, (_, arrives_at) in list(self.open.items()):
            if arrives_at > self.now:
                self.arrivals[token] = (math.inf, self.arrivals[token][1])
            del self.open[token]
            self.answered.append((token, self.now))
        self.rebuild()

    def check(self) -> None:
        """Every window ends with some arrival; it holds no more than was allowed when its last one was sent."""
        for index, rate in enumerate(self.limits):
            for end, _ in self.arrivals:
                if end == math.inf:
                    continue
                inside = [
                    token
                    for token, (at, _) in enumerate(self.arrivals)
                    if at != math.inf and end - rate.window_s < at <= end
                ]
                assert len(inside) <= self.arrivals[max(inside)][1][index]


sends = st.tuples(st.just("send"), ticks, st.floats(0, 1))
steps = st.one_of(
    sends,
    sends,
    sends,
    st.tuples(st.just("advance"), ticks),
    st.tuples(st.just("resize"), st.integers(1, 6)),
    st.tuples(st.just("rebuild")),
    st.tuples(st.just("crash")),
)


@given(st.lists(rates, min_size=1, max_size=3), st.lists(steps, max_size=80))
def test_never_more_than_the_limit_arrives(limits: list[Rate], script: list[tuple]) -> None:
    """Several windows hold at once for any answer delays and arrivals, over resizes, reloads and crashes (I8)."""
    sender = Sender(limits)
    for name, *arguments in script:
        getattr(sender, name)(*arguments)
    sender.check()


@given(rates, st.lists(st.one_of(st.tuples(ticks, st.integers(0, 5)), st.none()), max_size=60))
def test_same_as_counting(rate: Rate, script: list[tuple[float, int] | None]) -> None:
    """``used``, ``kinds`` and ``free_at`` say what a plain count over all slots says (kind: odd or even)."""
    window = StrictWindow(rate)
    now = 0.0
    held: dict[int, float] = {}  # token -> free again at
    under_way: list[int] = []
    for number, step in enumerate(script):
        if step is None:
            window.take(number, number % 2)
            held[number] = math.inf
            under_way.append(number)
        else:
            now += step[0]
            if under_way:
                token = under_way.pop(step[1] % len(under_way))
                window.release(token, now - TICK)
                held[token] = now - TICK + rate.window_s
        used = sorted(at for at in held.values() if at > now)
        assert window.used(now) == len(used)
        odd = sum(token % 2 for token, at in held.items() if at > now)
        kinds = window.kinds(now)
        assert (kinds.get(0, 0), kinds.get(1, 0)) == (len(used) - odd, odd)
        expected = now if len(used) < rate.limit else used[len(used) - rate.limit]
        assert window.free_at(now) == expected


def test_boundary() -> None:
    """A slot released at t is free at t + W and not earlier; a second release and unknown tokens change nothing."""
    window = StrictWindow(Rate(1, 60.0))
    window.take(1)
    assert window.free_at(5.0) == math.inf
    window.release(1, 10.0)
    window.release(1, 500.0)
    window.release(9, 500.0)
    assert window.free_at(10.0) == 70.0
    assert window.used(math.nextafter(70.0, 0)) == 1
    assert window.used(70.0) == 0


def test_long_log_is_cut() -> None:
    """A log of many slots forgets what is free again."""
    window = StrictWindow(Rate(1000, 10.0))
    for number in range(20_000):
        now = number * 0.02
        assert window.free_at(now) == now
        window.take(number)
        window.release(number, now)
    assert window.used(now) == 500
    assert len(window._back) < 1500
    assert len(window._kinds) == len(window._back)
