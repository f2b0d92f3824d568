"""The estimator as the pipeline uses it: against modelled limits in virtual time, and by hand."""

import json
import random

import pytest
from benchmarks.limits.platforms import Banning, Platform, limit_of
from benchmarks.limits.run import Trace, drive
from benchmarks.limits.senders import Relay
from relay.core.model import Rate
from relay.limits.estimator import Estimator, yaml_line
from relay.limits.evidence.history import Signal
from relay.limits.fit.families import Family
from relay.limits.in_force.limit import LearnedLimit

BEGIN = 1_000_017.0


def run(
    rate: Rate, *, family: str = "sliding", signal: str = "429", hours: float = 1.0, estimator: Estimator | None = None
) -> tuple[Relay, Trace]:
    """Send a backlog to one limit for so many hours."""
    platform = Platform(limits=[limit_of(family, rate)], signal=signal, rng=random.Random(1))
    sender = Relay(random.Random(2), estimator=estimator)
    return sender, drive(sender, platform, begin=BEGIN, end=BEGIN + hours * 3600.0)


def feed(estimator: Estimator, token: int, at: float, kind: Signal, answer_s: float = 0.05) -> None:
    """Send one request and answer it."""
    estimator.sent(token, at)
    estimator.answered(token, at + answer_s, kind)


@pytest.mark.parametrize("family", ["fixed", "first-request", "sliding", "bucket", "sliding+refused"])
def test_finds_hundred_per_minute_of_every_family(family: str) -> None:
    """Each way of counting 100/min ends in rates that carry all of it and are refused at most 5 times an hour."""
    sender, trace = run(Rate(100, 60.0), family=family, hours=2.0)
    assert sender.estimator.estimate(BEGIN + 7200.0).rates
    assert trace.accepted_in(BEGIN + 3600.0, BEGIN + 7200.0) >= 0.95 * 100 * 3600 / 60.05
    assert trace.refused_in(BEGIN + 300.0, BEGIN + 7200.0) <= 10


@pytest.mark.parametrize("window_s", [45.0, 37.0, 7.5])
def test_finds_windows_off_every_grid(window_s: float) -> None:
    """A window nobody writes is found to within four per cent, and not below."""
    sender, _ = run(Rate(100, window_s))
    (rate,) = sender.estimator.estimate(BEGIN + 3600.0).rates
    assert rate.limit >= 98
    assert window_s <= rate.window_s <= window_s * 1.05


def test_says_what_to_write() -> None:
    """The line to adopt is the operator's own notation, with the evidence in a sentence."""
    sender, _ = run(Rate(100, 60.0))
    estimate = sender.estimator.estimate(BEGIN + 3600.0)
    assert yaml_line(estimate.rates) == "rate: 100/min"
    assert "100 requests" in estimate.evidence.sentence
    assert estimate.confidence > 0.5


def test_only_windows_that_were_used_up_make_it_surer() -> None:
    """Time in which nothing is sent proves nothing, over a restart either; every window that is used up does."""
    sender, _ = run(Rate(100, 60.0), hours=0.2)
    before = sender.estimator.estimate(BEGIN + 720.0)
    idle = sender.estimator.estimate(BEGIN + 86400.0)
    again = Estimator()
    again.load(json.loads(json.dumps(sender.estimator.dump())))
    restarted = again.estimate(BEGIN + 86400.0)
    assert (idle.confidence, idle.evidence) == (before.confidence, before.evidence)
    assert (restarted.confidence, restarted.evidence.clean_windows) == (
        before.confidence,
        before.evidence.clean_windows,
    )

    worked, _ = run(Rate(100, 60.0), hours=0.4)
    later = worked.estimator.estimate(BEGIN + 1440.0)
    gained = later.evidence.clean_windows - before.evidence.clean_windows
    assert 8 <= gained <= 12
    assert later.confidence > before.confidence
    assert f"used up {later.evidence.clean_windows} times" in later.evidence.sentence


def test_a_window_that_was_not_tried_yet_is_not_said_to_hold() -> None:
    """Right after it was found it is what would explain the refusals, no more."""
    found = LearnedLimit(20, 1.0, 0.131, 1.0, Family.SLIDING, BEGIN, onsets=6, clean_from=BEGIN)
    estimator = Estimator()
    estimator.load({"rates": [found.dump()]})
    assert estimator.estimate(BEGIN + 3600.0).evidence.sentence == (
        "refused 6 times after 20 requests; a window of 0.131s was refused, one of 1s would explain it"
    )


def test_long_windows_are_told_in_plain_numbers() -> None:
    """An hour and a half, and thousands a second, without an exponent."""
    long = LearnedLimit(50_000, 5400.0, 5123.4, 5400.0, Family.SLIDING, BEGIN, onsets=1, clean_from=BEGIN)
    pace = LearnedLimit(123_456, 60.0, 60.0, 60.0, Family.UNCERTAIN, BEGIN, is_pace=True)
    told = []
    for learned in (long, pace):
        estimator = Estimator()
        estimator.load({"rates": [learned.dump()]})
        told.append(estimator.estimate(BEGIN).evidence.sentence)
    assert told[0].endswith("a window of 5120s was refused, one of 5400s would explain it")
    assert "2060 requests a second" in told[1]


def test_refusals_with_nothing_accepted_are_counted_and_said_to_prove_nothing() -> None:
    """A platform that refuses everything from the start is at no limit, and was not silent either."""
    estimator = Estimator()
    for token in range(6):
        feed(estimator, token, token * 10.0, Signal.THROTTLED)
    found = estimator.estimate(60.0)
    assert (found.rates, found.evidence.refused) == ((), 6)
    assert found.evidence.sentence.startswith("refused 6 times, with nothing accepted")


def test_knows_nothing_before_a_refusal() -> None:
    """Without a refusal there is no limit, no line and no confidence."""
    estimator = Estimator()
    for token in range(1000):
        feed(estimator, token, token * 0.01, Signal.ACCEPTED)
    estimate = estimator.estimate(10.0)
    assert (estimator.enforced(), yaml_line(estimate.rates), estimate.confidence) == ((), "", 0.0)
    assert estimate.family is Family.UNCERTAIN


def test_goes_on_after_a_restart() -> None:
    """What was dumped is small JSON and is in force again at once, without a refusal."""
    sender, _ = run(Rate(100, 60.0))
    kept = json.dumps(sender.estimator.dump())
    assert len(kept) < 2000
    again = Estimator()
    again.load(json.loads(kept))
    assert again.changed
    assert again.enforced() == sender.estimator.enforced()
    _, trace = run(Rate(100, 60.0), estimator=again)
    assert trace.refused_in(BEGIN, BEGIN + 3600.0) <= 5


@pytest.mark.parametrize("kept", [{"rates": [{"n": 0}]}, {"rates": 5}, {"rates": [{"n": "x"}]}])
def test_refuses_a_broken_dump(kept: dict[str, object]) -> None:
    """A dump that is none raises and changes nothing: the limit is learned anew."""
    estimator = Estimator()
    with pytest.raises(ValueError, match="stored estimate"):
        estimator.load(kept)
    assert estimator.enforced() == ()


def test_never_enforces_below_the_floor() -> None:
    """The operator's floor holds whatever was learned."""
    sender, _ = run(Rate(100, 60.0), estimator=Estimator(floor=Rate(5, 1.0)))
    assert sender.estimator.enforced() == (Rate(300, 60.0),)


def test_forgets_on_request() -> None:
    """After ``forget`` nothing is enforced and learning starts anew."""
    sender, _ = run(Rate(100, 60.0))
    sender.estimator.forget()
    assert sender.estimator.changed
    assert sender.estimator.enforced() == ()


class Forgetting(Relay):
    """Forgets what it learned at a given time, and goes on sending."""

    forget_at = float("inf")

    def next_at(self, now: float, under_way: int) -> float:
        if now >= self.forget_at:
            self.forget_at = float("inf")
            self.estimator.forget()
            self._apply(now)
        return super().next_at(now, under_way)


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_learns_anew_although_part_of_the_window_was_used_before(part: float) -> None:
    """What was sent before it forgot is counted by the platform, so it is not forgotten: the same limit is found."""
    platform = Platform(limits=[limit_of("first-request", Rate(100, 60.0))], signal="429", rng=random.Random(1))
    sender = Forgetting(random.Random(2))
    sender.forget_at = BEGIN + 600.0 + 60.0 * part
    drive(sender, platform, begin=BEGIN, end=BEGIN + 1200.0)
    assert sender.estimator.estimate(BEGIN + 1200.0).rates == (Rate(100, 60.0),)


def test_failures_and_unknown_tokens_teach_nothing() -> None:
    """Answers without a send, and failures that say nothing of a limit, change nothing."""
    estimator = Estimator()
    estimator.answered(7, 1.0, Signal.THROTTLED)
    for token in range(200):
        feed(estimator, token, float(token), Signal.FAILED if token % 3 else Signal.ACCEPTED)
    assert estimator.enforced() == ()
    assert estimator.estimate(200.0).evidence.refused == 0


def test_one_closure_is_no_limit() -> None:
    """A single stretch of refusals, even of 429, does not make a limit."""
    estimator = Estimator()
    for token in range(100):
        feed(estimator, token, token * 0.01, Signal.ACCEPTED)
    for token in range(100, 110):
        feed(estimator, token, 1.0 + 2.0 ** (token - 100), Signal.THROTTLED)
    feed(estimator, 200, 1200.0, Signal.ACCEPTED)
    assert estimator.enforced() == ()


def test_survives_a_ban() -> None:
    """A platform that shuts us out for five minutes when 100/min is exceeded is soon exceeded no more."""
    rate = Rate(100, 60.0)
    platform = Platform(limits=[Banning(limit_of("sliding", rate), 300.0)], signal="429", rng=random.Random(1))
    sender = Relay(random.Random(2))
    trace = drive(sender, platform, begin=BEGIN, end=BEGIN + 4 * 3600.0)
    assert sender.estimator.enforced()
    assert trace.refused_in(BEGIN + 3600.0, BEGIN + 4 * 3600.0) <= 60
    assert trace.accepted_in(BEGIN + 3 * 3600.0, BEGIN + 4 * 3600.0) >= 1000


def test_patience_is_for_a_known_limit_and_no_chance() -> None:
    """Nothing is known, or requests fail by chance, or the limit is only observed: refusals stop as ever."""
    assert Estimator().patience_s == 0.0
    sender, _ = run(Rate(100, 60.0))
    assert sender.estimator.patience_s == 15.0
    short, _ = run(Rate(10, 1.0))
    assert short.estimator.patience_s == pytest.approx(0.25, rel=0.1)
    sender.estimator.observing = True
    assert sender.estimator.patience_s == 0.0
    sender.estimator.observing = False
    for token in range(3):
        feed(sender.estimator, -1 - token, BEGIN + 3601.0 + token, Signal.FAILED)
    assert sender.estimator.patience_s == 0.0


def test_sends_nothing_more_beyond_a_limit_while_an_answer_is_overdue() -> None:
    """A 408 takes seconds, and what is sent meanwhile is refused too: a step beyond waits for a late answer."""
    sender, _ = run(Rate(10, 1.0), hours=0.2)
    estimator = Estimator()
    estimator.load(sender.estimator.dump())
    at = BEGIN + 86_400.0
    for token in range(100):
        feed(estimator, token, at, Signal.ACCEPTED)
        at += 0.1
        if estimator.trying is not None:
            break
    assert estimator.trying is not None
    assert not estimator.careful(at)
    estimator.sent(100, at)
    assert not estimator.careful(at + 0.1)
    assert estimator.careful(at + 0.3)
    for token in (101, 102):
        feed(estimator, token, at + 0.3, Signal.FAILED)
    assert not estimator.careful(at + 0.4)  # where requests fail by chance, waiting for each is time lost
    estimator.answered(100, at + 0.4, Signal.ACCEPTED)
    assert not estimator.careful(at + 0.4)


def test_a_limit_of_nothing_is_not_loaded() -> None:
    """A damaged row must not stop a platform: it is refused, and nothing is believed."""
    learned = LearnedLimit(n=0, window_s=60.0, low_s=59.0, high_s=60.0, family=Family.SLIDING, since=BEGIN)
    estimator = Estimator()

    with pytest.raises(ValueError, match="below 1"):
        estimator.load({"rates": [learned.dump()]})
    assert not estimator.knows
