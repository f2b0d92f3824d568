"""Steps beyond a limit in force, by hand: what a refusal does to them, and what is given back."""

import random
from dataclasses import replace

from relay.core.model import Rate
from relay.limits.evidence.history import History, Signal
from relay.limits.fit.families import Family, Hypothesis
from relay.limits.fit.likelihood import Fit
from relay.limits.fit.written import choose
from relay.limits.in_force.ceiling import Ceiling
from relay.limits.in_force.limit import LearnedLimit, smooth
from relay.limits.in_force.noise import Noise
from relay.limits.in_force.probing import Prober
from relay.limits.search import Search
from relay.limits.tracker import Tracker


def limit(n: int = 100, window_s: float = 60.0) -> LearnedLimit:
    """Return a limit that is believed and due for a step."""
    return LearnedLimit(n, window_s, window_s, window_s, Family.SLIDING, since=-1e6, clean_from=-1e6)


def probing(learned: LearnedLimit, now: float) -> Prober:
    """Return a prober whose step is under way."""
    prober = Prober()
    assert prober.begin([learned], now, lambda _: True, noisy=True)
    return prober


def test_one_refusal_among_chance_does_not_end_a_step() -> None:
    """Where requests fail by chance, a step survives one refusal and ends with the second."""
    prober = probing(limit(), 0.0)
    assert not prober.refused(10.0, 10.1, last_accepted=9.0, noisy=True)
    assert prober.probe is not None
    assert prober.refused(40.0, 40.1, last_accepted=39.0, noisy=True)
    assert prober.probe is None


def test_two_refusals_in_a_row_are_a_limit() -> None:
    """Nothing accepted in between: the step ends although chance refuses here."""
    prober = probing(limit(), 0.0)
    assert not prober.refused(10.0, 10.1, last_accepted=9.0, noisy=True)
    assert prober.refused(12.0, 12.1, last_accepted=9.0, noisy=True)


def test_without_chance_the_first_refusal_ends_a_step() -> None:
    """Where nothing fails by chance, one refusal costs one refusal."""
    prober = probing(limit(), 0.0)
    assert prober.refused(10.0, 10.1, last_accepted=9.0, noisy=False)


def test_what_is_accepted_beyond_refutes_the_refusal() -> None:
    """A request beyond the limit that is accepted right after a refusal makes it chance: the next does not end it."""
    prober = probing(limit(), 0.0)
    prober.refused(10.0, 10.1, last_accepted=9.0, noisy=True)
    prober.accepted(12.0, 1.0, 0.002, float("inf"))
    assert prober.probe is not None
    assert prober.probe.misses == 0


def test_a_large_raise_is_taken_back_by_half() -> None:
    """Three times as much was accepted for minutes: one refusal leaves more than was known before."""
    learned = limit()
    learned.n_before_raises, learned.n, learned.raised_at = 100, 300, 0.0
    assert learned.undo_raise(60.0)
    assert 150 < learned.n < 200
    assert learned.raise_at < 60.0 + 1200.0


def test_a_small_raise_is_taken_back_whole() -> None:
    """A few per cent more were a mistake."""
    learned = limit()
    learned.n_before_raises, learned.n, learned.raised_at = 100, 104, 0.0
    assert learned.undo_raise(60.0)
    assert learned.n == 100


def test_nothing_is_shrunk_below_what_got_through() -> None:
    """10 per second is refused by a longer limit that lets 100 a minute through: a pace of that, not 1 per second."""
    evidence = History()
    rates = Ceiling(evidence, Noise(evidence))
    rates.rates = [limit(2, 1.0)]
    for number in range(200):
        at = 0.6 * number
        kind = Signal.BUSY if number % 20 == 19 else Signal.ACCEPTED
        if kind is Signal.ACCEPTED:
            evidence.accept(at, at + 0.05)
        else:
            evidence.reject(at, at + 0.05, kind, None, probe=False)
    for _ in range(10):
        rates.shrink(evidence.closures(), 120.0)
    assert min(learned.rate_s for learned in rates.rates) > 0.85 * 0.95 / 0.6


def test_a_pace_goes_in_small_bursts() -> None:
    """The same pace, a tenth of the requests at a time, and the answer time is not lost."""
    rng = random.Random(1)
    for _ in range(100):
        rate = Rate(rng.randint(1, 500), rng.uniform(1.0, 600.0))
        fine = smooth(rate, 0.05)
        assert fine.limit <= max(1, rate.limit // 10)
        assert fine.window_s <= rate.window_s * fine.limit / rate.limit * 1.01


def test_steps_grow_again_after_the_finest() -> None:
    """A step that was refused is halved down to one request; from there each that goes well is followed by a larger."""
    learned = limit()
    learned.step = 8
    prober = Prober()
    now = 0.0
    for _ in range(8):  # each twice: one refusal may be chance
        learned.clean_from, learned.raise_at = now - 1e6, now
        assert prober.begin([learned], now, lambda _: True, noisy=False)
        prober.failures.clear()
        assert prober.refused(now + 1.0, now + 1.1, last_accepted=now, noisy=False)
        now += 100.0
    assert learned.step == 1
    steps = []
    for _ in range(3):
        learned.clean_from, learned.raise_at, learned.shorter_next = now - 1e6, now, False
        assert prober.begin([learned], now, lambda _: True, noisy=False)
        assert prober.probe is not None
        steps.append(prober.probe.rate.limit - learned.n)
        while prober.probe is not None:
            now += learned.window_s
            prober.accepted(now, 1.0, 0.002, float("inf"))
    assert steps == [1, 2, 4]


def test_steps_are_larger_where_chance_refuses_and_of_a_pace() -> None:
    """One request in a hundred more is refused too seldom to be told from chance; a pace is only what got through."""
    noisy = probing(limit(), 0.0)
    assert noisy.probe is not None
    assert noisy.probe.rate == Rate(103, 60.0)
    pace = limit(120)
    pace.is_pace = True
    pace.plan_raise(0.0, failed=False)
    assert (pace.step, pace.least_step) == (10, 3)


def busy_evidence(n: int, window_s: float, windows: int) -> tuple[History, float]:
    """Return what is seen of a limit that is used up in each window, with one refusal at the end; and the time."""
    evidence = History()
    for number in range(n * windows):
        evidence.accept(number * window_s / n, number * window_s / n + 0.01)
    now = windows * window_s
    evidence.reject(now, now + 0.01, Signal.BUSY, None, probe=False)
    return evidence, now


def test_a_window_nobody_writes_gives_way_to_the_one_people_meant() -> None:
    """57 s refused once more are a minute, with the same count; a minute that is refused loses two in a hundred."""
    evidence, now = busy_evidence(100, 57.2, 3)
    rates = Ceiling(evidence, Noise(evidence))
    rates.rates = [limit(100, 57.2)]
    rates.shrink(evidence.closures(), now)
    assert rates.rates[0].rate() == Rate(100, 60.0)
    evidence, now = busy_evidence(100, 60.0, 3)
    rates = Ceiling(evidence, Noise(evidence))
    rates.rates = [limit(100, 60.0)]
    rates.shrink(evidence.closures(), now)
    assert rates.rates[0].rate() == Rate(98, 60.0)


def test_what_is_refused_again_and_again_falls_to_what_gets_through() -> None:
    """90 in half a minute where 80 get through in a whole one: twice by 2 %, then to a fifth above that pace."""
    evidence = History()
    for window in range(6):
        begun = 60.0 * window
        for number in range(80):
            evidence.accept(begun + 0.1 * number, begun + 0.1 * number + 0.01)
        for late in (9.0, 20.0):
            evidence.reject(begun + late, begun + late + 0.01, Signal.BUSY, None, probe=False)
    evidence.accept(360.0, 360.01)
    rates = Ceiling(evidence, Noise(evidence))
    rates.rates = [limit(90, 30.0)]
    counts = []
    for now in (330.0, 340.0, 350.0):
        rates.shrink(evidence.closures(), now)
        counts.append(rates.rates[0].n)
    assert counts == [88, 86, 48]
    rates.rates = [limit(90, 10.0)]  # of a short window the stops take much of what would get through
    for now in (350.0, 355.0, 360.0):
        rates.shrink(evidence.closures(), now)
    assert rates.rates[0].n == 82


def test_windows_are_doubted_once_requests_fail_by_chance() -> None:
    """What bounded a young window may have been chance; one that held for long is left alone, and so is a bucket."""
    evidence = History()
    rates = Ceiling(evidence, Noise(evidence))
    young, old, bucket = limit(window_s=60.0), limit(window_s=60.0), limit(window_s=60.0)
    young.since, bucket.since, bucket.family = 900.0, 900.0, Family.BUCKET
    rates.rates = [young, old, bucket]
    rates.allow_shorter_windows(1000.0)
    assert [learned.settled for learned in rates.rates] == [False, True, True]


def test_failures_by_chance_let_a_shorter_window_be_tried() -> None:
    """The second request that fails for a reason of its own makes a young window one to be tried again."""
    tracker = Tracker()
    young = limit()
    young.since = 0.0
    tracker.rates = [young]
    settled = []
    for token in range(2):
        tracker.evidence.sent(token, 10.0 + token)
        tracker.answered(token, 10.1 + token, Signal.FAILED)
        settled.append(young.settled)
    assert settled == [True, False]


def test_a_pace_is_judged_over_stretches_between_refusals() -> None:
    """Refused every five minutes, 97 % of what got through is tried over ten: one minute says nothing of the limit."""
    evidence = History()
    for window in range(6):
        for number in range(100):
            evidence.accept(300.0 * window + number, 300.0 * window + number + 0.01)
        evidence.reject(300.0 * window + 100.0, 300.0 * window + 100.01, Signal.BUSY, None, probe=False)
    rates = Ceiling(evidence, Noise(evidence))
    rates.pace(1.0 / 3.0, evidence.closures(), 1700.0)
    (pace,) = rates.rates
    assert pace.is_pace
    assert 590.0 <= pace.window_s <= 640.0
    assert pace.rate_s <= 0.97 / 3.0


def test_a_pace_gives_way_to_a_limit_however_long_it_held() -> None:
    """It is only what got through: a limit that is found takes its place, where an old limit stays beside it."""
    evidence, now = busy_evidence(100, 60.0, 3)
    old = replace(limit(200, 600.0), since=now - 1e6)
    pace = replace(old, is_pace=True)
    hypothesis = Hypothesis(Family.COUNTING, 100, 59.0, 60.0, frozenset(), 0)
    found = Fit(hypothesis, 60.0, 6, 6, 6, 300, 0, 0, newest=True, first_at=0.0, unsure=0.1)
    kept = {}
    for name, before in (("limit", old), ("pace", pace)):
        rates = Ceiling(evidence, Noise(evidence))
        rates.rates = [before]
        rates.adopt(found, now)
        kept[name] = [learned.window_s for learned in rates.rates]
    assert kept == {"limit": [60.0, 600.0], "pace": [60.0]}


def refused_once(chance: Noise, evidence: History, now: float) -> bool:
    """Say whether the lone refusal at the end is more than chance."""
    return chance.beyond_noise(evidence.closures()[-1], now, [limit(100, 60.0)])


def test_one_refusal_counts_where_nothing_else_fails() -> None:
    """The limit was used up and nobody ever failed by chance: once is enough. Where requests do fail, it is not."""
    evidence, now = busy_evidence(100, 60.0, 3)
    assert refused_once(Noise(evidence), evidence, now)
    noisy = Noise(evidence)
    noisy.failed()
    noisy.failed()
    assert not refused_once(noisy, evidence, now)


def test_even_sending_tells_nothing_of_a_second_limit() -> None:
    """Evenly sent, any request has 38 before it in 4 s, so chance bears that out; none has them in one."""
    evidence = History()
    search = Search(evidence, chance := Noise(evidence), Ceiling(evidence, chance))
    for number in range(1000):
        evidence.accept(0.1 * number, 0.1 * number + 0.02)
    hypothesis = Hypothesis(Family.COUNTING, 38, 3.79, 3.81, frozenset(), 0)
    found = Fit(hypothesis, 3.8, 6, 6, 6, 1000, 0, 0, newest=True, first_at=0.0, unsure=0.1)
    assert not search.is_specific(found)
    assert search.is_specific(replace(found, window_s=1.0))


def test_a_limit_of_a_second_is_raised_again() -> None:
    """No shorter window is asked about where none exists: after a failed step more is tried, every time."""
    learned = limit(10, 1.0)
    now = 0.0
    for _ in range(3):
        learned.plan_raise(now, failed=True)
        now = learned.raise_at
        prober = probing(learned, now)
        assert prober.probe is not None
        assert prober.probe.rate == Rate(11, 1.0)


def test_every_other_step_is_a_shorter_window() -> None:
    """A window guessed too long cannot be found out by a higher count."""
    learned = limit()
    tried = []
    now = 0.0
    for _ in range(4):
        learned.plan_raise(now, failed=True)
        now = learned.raise_at
        prober = Prober()
        assert prober.begin([learned], now, lambda _: True, noisy=False)
        assert prober.probe is not None
        tried.append(prober.probe.shorter)
    assert tried == [True, False, True, False]


def test_steps_that_cost_much_are_rare() -> None:
    """A refusal of 5 s costs a window of a second six of them, one of a minute nothing it does not wait for anyway."""
    short, long = limit(10, 1.0), limit()
    short.refused_s = long.refused_s = 5.0
    for learned in (short, long):
        learned.plan_raise(0.0, failed=False)
    assert short.raise_every_s >= 400 * 2 * (5.0 + 2.0 - 1.0)
    assert long.raise_every_s == 1200.0
    short.refused_s = 600.0
    short.plan_raise(0.0, failed=False)
    assert short.raise_every_s == 6 * 3600.0


def test_one_more_of_a_few_is_tried_rarely() -> None:
    """2 per 5.17 s is a pace in all but name, where one more is half as much again; 2 per 5 s is a limit."""
    pace, written = limit(2, 5.17), limit(2, 5.0)
    for learned in (pace, written):
        learned.plan_raise(0.0, failed=True)
    assert (pace.raise_every_s, written.raise_every_s) == (6 * 3600.0, 1200.0)


def test_refusals_that_belong_together_put_off_the_next_step_once() -> None:
    """What was too high by a third is shrunk ten times over: it was wrong once, and is tried again within the hour."""
    evidence, now = busy_evidence(100, 60.0, 3)
    rates = Ceiling(evidence, Noise(evidence))
    rates.rates = [limit(100, 60.0)]
    for number in range(10):
        rates.shrink(evidence.closures(), now + 60.0 * number)
    (learned,) = rates.rates
    assert learned.n < 80
    assert learned.raise_every_s == 2400.0


def burst_refused_after(window_s: float) -> tuple[History, float]:
    """Return what is seen where 40 at once are all that a stretch lets through, refused once more; and the time."""
    evidence = History()
    for number in range(40):
        evidence.accept(0.1 * number, 0.1 * number + 0.05)
    evidence.reject(window_s, window_s + 0.05, Signal.BUSY, None, probe=False)
    return evidence, window_s + 0.05


def test_a_window_that_refuses_long_before_it_is_used_up_is_longer() -> None:
    """40 went out at once, and 12 s later the first of the next 40 was refused: no count explains that."""
    evidence, now = burst_refused_after(12.5)
    rates = Ceiling(evidence, Noise(evidence))
    rates.rates = [limit(40, 10.0)]
    rates.shrink(evidence.closures(), now)
    assert rates.rates[0].rate() == Rate(40, 12.0)
    noisy = Noise(evidence)
    noisy.failed()
    noisy.failed()  # where any request may be refused by chance, that says nothing of the window
    rates = Ceiling(evidence, noisy)
    rates.rates = [limit(40, 10.0)]
    rates.shrink(evidence.closures(), now)
    assert rates.rates[0].rate() == Rate(39, 10.0)


def test_a_step_too_fine_to_be_seen_is_not_tried_for_ever() -> None:
    """12.9 s in place of 13.1 s shows in nothing that is sent: after its time the window counts as known."""
    learned = limit(39, 13.1)
    learned.low_s = 12.5
    assert not learned.settled
    prober = Prober()
    assert prober.begin([learned], 0.0, lambda _: True, noisy=False)
    assert prober.probe is not None
    assert not prober.accepted(100.0, 12.95, 0.075, float("inf"))
    assert prober.accepted(prober.probe.until + 1.0, 12.95, 0.075, float("inf"))
    assert learned.settled
    idle = limit(39, 60.0)  # what could be seen, but was not used, is still to be tried
    idle.low_s = 30.0
    assert prober.begin([idle], 0.0, lambda _: True, noisy=False)
    assert prober.probe is not None
    assert prober.accepted(prober.probe.until + 1.0, 1e6, 0.075, float("inf"))
    assert not idle.settled


def test_of_a_window_nobody_writes_a_shorter_one_is_asked_first() -> None:
    """41 per 33.5 s was guessed: the first step is a shorter window; 41 per 30 s is raised first."""
    for window_s, shorter in ((33.5, True), (30.0, False)):
        evidence, now = busy_evidence(41, window_s, 3)
        rates = Ceiling(evidence, Noise(evidence))
        hypothesis = Hypothesis(Family.COUNTING, 41, window_s * 0.98, window_s, frozenset(), 0)
        found = Fit(hypothesis, window_s, 6, 6, 6, 123, 0, 0, newest=True, first_at=0.0, unsure=0.1)
        rates.adopt(found, now)
        (learned,) = rates.rates
        prober = Prober()
        assert prober.begin([learned], learned.raise_at, lambda _: True, noisy=False)
        assert prober.probe is not None
        assert prober.probe.shorter == shorter


def test_the_way_back_is_halved_when_it_is_refused() -> None:
    """Halved from 100 to 50, shrunk to 40: half of the way back is refused, half of that is next, and soon."""
    learned = limit(40)
    learned.peak = 100
    tried, now = [], 0.0
    for _ in range(4):
        learned.clean_from = now - 1e6
        prober = Prober()
        assert prober.begin([learned], now, lambda _: True, noisy=False)
        assert prober.probe is not None
        tried.append(prober.probe.rate.limit)
        prober.refused(now + 1.0, now + 1.1, last_accepted=now, noisy=False)
        now = learned.raise_at
    assert tried == [70, 55, 47, 43]
    assert now < 800.0


def test_a_step_that_is_refused_bounds_the_way_back() -> None:
    """One in ten more than is in force, and refused twice: the next try is below it, not the same again."""
    learned = limit(50)
    learned.peak, now = 55, 0.0
    tried = []
    for _ in range(4):
        learned.clean_from, learned.raise_at, learned.shorter_next = now - 1e6, now, False
        prober = Prober()
        assert prober.begin([learned], now, lambda _: True, noisy=False)
        assert prober.probe is not None
        tried.append(prober.probe.rate.limit)
        prober.refused(now + 1.0, now + 1.1, last_accepted=now, noisy=False)
        now += 1e5
    assert tried == [53, 53, 51, 51]


def raised(learned: LearnedLimit, counts: list[int], now: float) -> float:
    """Raise it to each of the counts in turn, each of which holds; return the time."""
    for count in counts:
        learned.clean_from, learned.raise_at = now - 1e6, now
        learned.step, learned.shorter_next = count - learned.n, False
        prober = Prober()
        assert prober.begin([learned], now, lambda _: True, noisy=False)
        while prober.probe is not None:
            now += learned.window_s
            prober.accepted(now, 1.0, 0.002, float("inf"))
        assert learned.n == count
    return now


def test_only_the_latest_raises_are_taken_back() -> None:
    """104, 108, 116 and 124 held for two windows each: a refusal takes back the last two, and the way back is known."""
    learned = limit()
    now = raised(learned, [104, 108, 116, 124], 0.0)
    assert learned.undo_raise(now)
    assert (learned.n, learned.peak) == (108, 123)


def test_of_a_bucket_all_raises_that_it_may_have_forgiven_are_taken_back() -> None:
    """What it had spare lets too much through for long; far above, half of it is true."""
    learned = limit()
    learned.family = Family.BUCKET
    now = raised(learned, [104, 108, 116, 124], 0.0)
    assert learned.undo_raise(now)
    assert (learned.n, learned.peak) == (100, 123)
    now = raised(learned, [130, 160, 200], now + 1e6)
    assert learned.undo_raise(now)
    assert (learned.n, learned.peak) == (141, 199)


def test_a_step_ends_with_what_it_goes_beyond() -> None:
    """A few are tried beyond 110, which become 100 or something else: then it is a large step that nobody asked for."""
    learned = limit(110)
    prober = probing(learned, 0.0)
    assert not prober.end_if_large([learned])
    learned.n = 108  # a little less, perhaps for a refusal by chance: as good a step as before
    assert not prober.end_if_large([learned])
    learned.n = 100
    assert prober.end_if_large([learned])
    assert prober.probe is None
    prober = probing(learned, 0.0)
    assert prober.end_if_large([limit(100)])
    assert prober.probe is None


def test_a_step_that_was_large_from_the_beginning_goes_on() -> None:
    """Half of the way back to 100 is a large step on purpose: what changes nothing does not end it."""
    learned = limit(40)
    learned.peak = 100
    prober = probing(learned, 0.0)
    assert not prober.end_if_large([learned])
    assert prober.probe is not None
    assert prober.probe.rate == Rate(70, 60.0)


def test_a_raise_that_is_taken_back_takes_the_next_step_with_it() -> None:
    """200 were in force and 203 are being tried when the platform refuses: it is half of the raise again, no step."""
    tracker = Tracker()
    learned = limit(200)
    learned.n_before_raises, learned.raised_at, learned.raise_at = 100, 0.0, 1e9
    tracker.rates = [learned]
    now, token = 0.0, 0
    while now < 60.0:
        tracker.evidence.sent(token, now)
        tracker.answered(token, now + 0.01, Signal.ACCEPTED)
        now, token = now + 0.25, token + 1
    learned.raise_at, learned.shorter_next = now, False
    assert tracker.prober.begin([learned], now, lambda _: True, noisy=False)
    assert tracker.prober.probe is not None
    tracker.prober.probe.since = now + 60.0  # nothing goes beyond yet
    for kind in (Signal.THROTTLED, Signal.THROTTLED, Signal.ACCEPTED):
        tracker.evidence.sent(token, now)
        tracker.answered(token, now + 0.01, kind)
        now, token = now + 5.0, token + 1
    assert learned.n == 141
    assert tracker.prober.probe is None


def test_a_window_that_nothing_bounds_from_below_is_the_upper_one() -> None:
    """What was accepted may have been sent a little after what was refused: then the lower bound is below zero."""
    assert choose(-0.01, 0.7) == 0.7
    assert choose(0.4, 0.9) == 0.6


def test_few_steps_fail_in_an_hour() -> None:
    """After three failed steps within the hour no other one begins; an hour later the next one does."""
    learned = limit()
    learned.low_s, learned.raise_at = learned.window_s, 0.0
    prober = Prober()
    prober.failures.extend([50_000.0, 50_600.0, 51_200.0])

    assert not prober.begin([learned], 52_000.0, lambda _: True, noisy=False)
    assert prober.begin([learned], 55_000.0, lambda _: True, noisy=False)


def test_failures_of_long_ago_are_no_noise_of_today() -> None:
    """Only the latest few thousand requests say how noisy a platform is: two failures among them, then none."""
    noise = Noise(History())
    noise.failed()
    noise.failed()
    assert noise.noisy
    for _ in range(12_000):
        noise.accepted()
    assert not noise.noisy
