"""What is known of one platform's limits: learned, declared, set by an operator; by groups; over a restart."""

import itertools
import json
import math
import random

import pytest
from benchmarks.limits.platforms import Platform, limit_of
from relay.core.model import Outcome, Quota, Rate, Verdict
from relay.delivery.gate.signals import kind_of
from relay.limits.evidence.history import Signal
from relay.limits.fit.families import Family
from relay.limits.in_force.limit import LearnedLimit
from relay.limits.known import LearnTerms, Mode, OperatorLimit
from relay.limits.learner import MOST_GROUPS, Learner
from relay.limits.summary import summary
from relay.policy.strict_window import StrictWindow
from relay.views.limit_view import UnderneathView
from relay.views.moments import plain
from relay.wire.answers.answer import Answer, Failure, FailureKind, Headers

BEGIN = 1_000_000.0
TEN_PER_10S = Rate(10, 10.0)
ANSWER_S = 0.02
_tokens = itertools.count(1)


def made(mode: Mode = Mode.ENFORCE, *, grouped: bool = False, floor: Rate | None = None) -> Learner:
    """Return a platform's limits, with nothing known."""
    return Learner("shop", destination="shop.example", terms=LearnTerms(mode, floor), grouped=grouped)


def work(
    learning: Learner, rate: Rate, *, group: str = "", begin: float = BEGIN, for_s: float = 300.0, whole: bool = False
) -> int:
    """Send a backlog of ``group`` to a platform that answers 429 above ``rate``; return how often it refused.

    Everything is obeyed as the pipeline does: the quotas in force, and two seconds of quiet after a refusal.
    """
    platform = Platform(limits=[limit_of("sliding", rate)], signal="429", rng=random.Random(1))
    windows: dict[tuple[str, float], StrictWindow] = {}
    now, refused = begin, 0
    while now < begin + for_s:
        if learning.changed:
            quotas = learning.quotas(now)
            wanted = {
                (quota.name, each.window_s): each
                for quota in quotas
                for each in quota.rates
                if quota.group in (None, group)
            }
            windows = {name: windows.get(name) or StrictWindow(each) for name, each in wanted.items()}
            for name, each in wanted.items():
                windows[name].resize(each.limit)
        at = max((window.free_at(now) for window in windows.values()), default=now)
        if at > now:
            now = at
            continue
        token = next(_tokens)
        learning.sent(token, group, now)
        for window in windows.values():
            window.take(token)
        reply = platform.request(now)
        ended_at = now + ANSWER_S
        for window in windows.values():
            window.release(token, ended_at)
        learning.answered(token, group, kind=reply.kind, sent_at=now, now=ended_at, wait_s=reply.wait_s, whole=whole)
        refused += reply.kind is not Signal.ACCEPTED
        now = ended_at + (0.05 if reply.kind is Signal.ACCEPTED else 2.0)
    return refused


def rates_of(learning: Learner, now: float = BEGIN + 300.0) -> dict[str, tuple[Rate, ...]]:
    """Return what is in force, by quota."""
    return {quota.name: quota.rates for quota in learning.quotas(now)}


def test_what_is_learned_becomes_a_quota_of_its_own() -> None:
    """A limit that is found is put in force under the platform's name, told once, and shown with the line to write."""
    learning = made()
    assert rates_of(learning) == {}
    work(learning, TEN_PER_10S)
    assert set(rates_of(learning)) == {"learned:shop"}
    (news,) = learning.news(BEGIN + 300.0)
    assert (news.known.source, news.known.rates) == ("learned", (TEN_PER_10S,))
    assert learning.news(BEGIN + 300.0) == []
    view = summary(learning, BEGIN + 300.0)
    assert view is not None
    assert (view.source, view.enforced, view.yaml) == ("learned", True, "rate: 10/10s")
    assert view.evidence.refused > 0
    json.dumps(plain(view))


def test_a_group_that_is_limited_holds_back_nobody_else() -> None:
    """Refusals of one shop end in a quota of that shop; the platform and other shops have none."""
    learning = made(grouped=True)
    work(learning, TEN_PER_10S, group="s1")
    work(learning, Rate(1000, 1.0), group="s2")
    assert [(quota.name, quota.group) for quota in learning.quotas(BEGIN + 300.0)] == [("learned:shop/s1", "s1")]
    view = summary(learning, BEGIN + 300.0)
    assert view is not None
    assert (view.group, view.groups) == ("s1", 1)


def test_refusals_that_are_the_platforms_teach_about_all_groups() -> None:
    """Under ``scope: platform`` the quota holds for the platform as a whole."""
    learning = made(grouped=True)
    work(learning, TEN_PER_10S, group="s1", whole=True)
    assert [(quota.name, quota.group) for quota in learning.quotas(BEGIN + 300.0)] == [("learned:shop", None)]


def test_no_more_than_so_many_groups_are_remembered() -> None:
    """A thousand shops that are refused once each leave as much behind as the bound allows."""
    learning = made(grouped=True)
    for number in range(1000):
        token = next(_tokens)
        learning.sent(token, f"s{number}", BEGIN)
        learning.answered(
            token, f"s{number}", kind=Signal.THROTTLED, sent_at=BEGIN, now=BEGIN + 1, wait_s=None, whole=False
        )
    assert len(learning._estimators) <= MOST_GROUPS + 1


def test_observing_shows_and_does_not_enforce() -> None:
    """The estimate of a limit that is hit again and again stays what it is, and nothing is put in force."""
    learning = made(Mode.OBSERVE)
    refused = work(learning, TEN_PER_10S, for_s=1800.0)
    assert refused > 100
    assert rates_of(learning) == {}
    view = summary(learning, BEGIN + 1800.0)
    assert view is not None
    assert ([rate.text for rate in view.rates], view.enforced) == (["10/10s"], False)


def test_off_learns_nothing_and_shows_nothing() -> None:
    """With ``learn_limit: false`` neither refusals nor declarations change anything."""
    learning = made(Mode.OFF)
    work(learning, TEN_PER_10S)
    learning.declared([TEN_PER_10S])
    assert (rates_of(learning), summary(learning, BEGIN)) == ({}, None)


def test_the_operators_limit_takes_the_place_of_others_and_ends_by_itself() -> None:
    """While it lasts it alone holds; then what was learned is in force again."""
    learning = made()
    work(learning, TEN_PER_10S)
    learned = rates_of(learning)
    end = BEGIN + 1000.0
    learning.set(OperatorLimit((Rate(80, 60.0),), end, "sale"))
    assert learning.ends_at == end
    assert rates_of(learning, end - 1) == {"operator:shop": (Rate(80, 60.0),)}
    view = summary(learning, end - 1)
    assert view is not None
    assert (view.source, view.reason, view.until) == ("operator", "sale", end)
    assert view.since is None  # it is not the learned one's time
    assert view.after is not None
    assert (view.after.source, view.after.rates[0].text) == ("learned", "10/10s")
    assert 0 < view.after.confidence < 1
    assert (view.confidence, view.yaml) == (None, "rate: 10/10s")  # its own number is not to be adopted
    assert rates_of(learning, end) == learned
    assert learning.ends_at == math.inf


def test_nothing_is_to_be_adopted_of_an_operators_limit_alone() -> None:
    """Where nothing was learned beneath it, or what is beneath was declared, there is no line."""
    learning = made()
    learning.set(OperatorLimit((Rate(80, 60.0),), math.inf, ""))
    alone = summary(learning, BEGIN)
    learning.declared([Rate(5, 1.0)])
    over_declared = summary(learning, BEGIN)

    assert alone is not None
    assert over_declared is not None
    assert (alone.yaml, alone.after) == ("", UnderneathView(source="none", rates=[], confidence=0.0))
    assert over_declared.after is not None
    assert (over_declared.yaml, over_declared.after.source) == ("", "declared")


def test_forgetting_drops_everything() -> None:
    """Learned, declared and set limits are gone, also from what a restart would find."""
    learning = made()
    work(learning, TEN_PER_10S)
    learning.declared([Rate(5, 1.0)])
    learning.set(OperatorLimit((Rate(80, 60.0),), math.inf, ""))
    learning.forget()
    again = made()
    again.load(json.loads(json.dumps(learning.dump())))
    assert (rates_of(learning), rates_of(again)) == ({}, {})


def test_what_the_platform_declares_beats_the_estimate_of_that_window() -> None:
    """A declared 20/10s replaces the learned 10/10s; a learned limit over another window holds beside it."""
    learning = made()
    work(learning, TEN_PER_10S)
    learning.declared([Rate(20, 10.0)])
    assert rates_of(learning) == {"declared:shop": (Rate(20, 10.0),)}
    learning.declared([Rate(1000, 3600.0)])
    assert set(rates_of(learning)) == {"declared:shop", "learned:shop"}


def test_a_restart_goes_on_with_what_was_known() -> None:
    """Limits and the operator's word come back from JSON, and nobody is told again."""
    learning = made()
    work(learning, TEN_PER_10S)
    learning.set(OperatorLimit((Rate(80, 60.0),), BEGIN + 1e6, "sale"))
    again = made()
    again.load(json.loads(json.dumps(learning.dump())))
    assert again.changed
    assert rates_of(again) == {"operator:shop": (Rate(80, 60.0),)}
    assert again.news(BEGIN + 300.0) == []
    assert set(rates_of(again, BEGIN + 1e6)) == {"learned:shop"}


def test_a_pace_is_no_line_to_adopt_and_no_news_when_it_moves() -> None:
    """What merely got through moves all the time: it is told once, and nobody is asked to write it down."""
    learning = made()
    pace = LearnedLimit(40, 60.0, 60.0, 60.0, Family.UNCERTAIN, BEGIN, is_pace=True)
    kept = learning.dump()
    kept["groups"][""]["rates"] = [pace.dump()]
    learning.load(kept)
    view = summary(learning, BEGIN)
    assert view is not None
    assert (view.source, view.yaml) == ("learned", "")
    assert view.evidence.sentence == (
        "no limit explains the refusals: 0.667 requests a second got through between them"
    )

    fresh = made()
    assert fresh.news(BEGIN) == []
    for n, told in ((40, 1), (42, 0), (39, 0)):
        pace.n = n
        kept["groups"][""]["rates"] = [pace.dump()]
        fresh._estimators[""].load(kept["groups"][""])
        assert len(fresh.news(BEGIN)) == told


def test_limits_that_are_declared_anew_with_every_answer_are_told_once_a_minute() -> None:
    """They are put in force each time; the log is not filled with them."""
    learning = made()
    told = []
    for second in range(150):
        learning.declared([Rate(100 + second, 60.0)])
        told += learning.news(BEGIN + second)
    assert [news.known.rates[0].limit for news in told] == [100, 160, 220]
    assert rates_of(learning) == {"declared:shop": (Rate(249, 60.0),)}


def test_what_makes_a_limit_surer_is_kept() -> None:
    """A window that is used up is worth writing down; once that makes a limit no surer it is not."""
    learning = made()
    work(learning, TEN_PER_10S)
    learning.dump()
    work(learning, TEN_PER_10S, begin=BEGIN + 300.0, for_s=30.0)
    assert learning.unkept

    known = LearnedLimit(10, 10.0, 10.0, 10.0, Family.SLIDING, BEGIN, clean_from=BEGIN)
    confidence_rose = [known.note_used_up(BEGIN + 5.0 * halves) for halves in range(1, 61)]
    assert confidence_rose == [False, True] * 20 + [False] * 20
    assert known.clean_windows == 30
    known.clean_from = BEGIN + 400.0
    assert known.clean_windows == 0
    assert known.note_used_up(BEGIN + 410.0)


def test_another_destination_begins_anew() -> None:
    """What was learned of one host says nothing about another."""
    learning = made()
    work(learning, TEN_PER_10S)
    other = Learner("shop", destination="other.example", terms=LearnTerms(), grouped=False)
    other.load(learning.dump())
    assert rates_of(other) == {}


@pytest.mark.parametrize(
    "spoiled",
    [{"declared": [["x", 1]]}, {"groups": {"": {"rates": [{"n": 0}]}}}, {"operator": {"rates": None, "until": 1}}],
)
def test_a_dump_that_cannot_be_read_is_refused(spoiled: dict[str, object]) -> None:
    """It raises ``ValueError``, which the caller reports, and puts nothing absurd in force."""
    learning = made()
    with pytest.raises(ValueError, match="anew"):
        learning.load({"destination": "shop.example", "grouped": False, **spoiled})
    assert rates_of(learning) == {}


def test_nothing_below_the_floor_is_enforced() -> None:
    """A learned 10/10s is enforced as 30/10s where the operator wants 3/s at least."""
    learning = made(floor=Rate(3, 1.0))
    work(learning, TEN_PER_10S)
    assert rates_of(learning) == {"learned:shop": (Rate(30, 10.0),)}


@pytest.mark.parametrize(("declared", "enforced"), [(Rate(10, 10.0), Rate(30, 10.0)), (Rate(40, 10.0), Rate(40, 10.0))])
def test_a_declared_limit_is_enforced_at_the_floor_at_least(declared: Rate, enforced: Rate) -> None:
    """Headers may say anything, 0 among it: below what the operator wants they are shown, not obeyed."""
    learning = made(floor=Rate(3, 1.0))
    learning.declared([declared])
    assert rates_of(learning) == {"declared:shop": (enforced,)}
    assert learning.known("", BEGIN).rates == (declared,)


def test_changed_terms_keep_what_was_learned() -> None:
    """A reload to ``observe`` and back changes whether it is enforced, not what is known."""
    learning = made()
    work(learning, TEN_PER_10S)
    before = rates_of(learning)
    learning.configure(LearnTerms(Mode.OBSERVE), grouped=False)
    assert rates_of(learning) == {}
    learning.configure(LearnTerms(), grouped=False)
    assert rates_of(learning) == before
    learning.configure(LearnTerms(Mode.OFF), grouped=False)
    learning.configure(LearnTerms(), grouped=False)
    assert rates_of(learning) == {}


def test_what_was_learned_without_groups_is_not_meant_with_them() -> None:
    """A limit of the whole platform says nothing of a shop's, and the other way round; nor what was declared or set."""
    learning = made()
    work(learning, TEN_PER_10S)
    learning.declared([Rate(50, 60.0)])
    learning.set(OperatorLimit((Rate(80, 60.0),), math.inf, ""))
    learning.configure(LearnTerms(), grouped=True)
    assert (rates_of(learning), learning.known("", BEGIN + 300.0).rates, learning.operator) == ({}, (), None)
    work(learning, TEN_PER_10S, group="17", begin=BEGIN + 300.0)
    assert rates_of(learning, BEGIN + 600.0) == {"learned:shop/17": (TEN_PER_10S,)}
    learning.configure(LearnTerms(), grouped=False)
    assert rates_of(learning, BEGIN + 600.0) == {}


def answer(status: int, outcome: Outcome, *, wait_s: float | None = None) -> tuple[Answer, Verdict]:
    """An answer and what it was taken for."""
    return Answer(status, Headers(), b""), Verdict(outcome, ambiguous=False, reason="", wait_s=wait_s)


def failure(kind: FailureKind, outcome: Outcome, *, connected: bool) -> tuple[Failure, Verdict]:
    """A failure and what it was taken for."""
    return Failure(kind, connected=connected), Verdict(outcome, ambiguous=connected, reason="")


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (answer(200, Outcome.OK), Signal.ACCEPTED),
        (answer(400, Outcome.REJECT), Signal.ACCEPTED),  # looked at, so let through
        (answer(200, Outcome.CONFIRM), Signal.FAILED),  # perhaps a refusal nobody recognised
        (answer(429, Outcome.THROTTLED), Signal.THROTTLED),
        (answer(200, Outcome.THROTTLED, wait_s=60.0), Signal.THROTTLED),
        (answer(503, Outcome.THROTTLED), Signal.BUSY),
        (answer(503, Outcome.THROTTLED, wait_s=5.0), Signal.THROTTLED),
        (answer(408, Outcome.THROTTLED), Signal.BUSY),
        (answer(500, Outcome.RETRY), Signal.FAILED),
        (answer(500, Outcome.PLAIN), Signal.FAILED),  # perhaps about compression, perhaps an outage
        (answer(415, Outcome.PLAIN), Signal.ACCEPTED),
        (answer(407, Outcome.AUTH), Signal.FAILED),
        (answer(401, Outcome.AUTH), Signal.FAILED),
        (failure("timeout", Outcome.RETRY, connected=True), Signal.BUSY),
        (failure("reset", Outcome.RETRY, connected=True), Signal.FAILED),
        (failure("refused", Outcome.DOWN, connected=False), Signal.DOWN),
    ],
)
def test_what_an_answer_says_about_a_limit(seen: tuple[Answer | Failure, Verdict], kind: Signal) -> None:
    """Only what may be a limit counts as a refusal; what the platform looked at counts as let through."""
    assert kind_of(*seen) is kind


def test_quotas_of_groups_and_platform_are_plain_data() -> None:
    """A quota of one group equals another with the same numbers, so an unchanged one costs the store nothing."""
    learning = made(grouped=True)
    work(learning, TEN_PER_10S, group="s1")
    first, second = learning.quotas(BEGIN + 300.0), learning.quotas(BEGIN + 300.0)
    assert first == second
    assert isinstance(first[0], Quota)


@pytest.mark.parametrize("group", ["", "seller-1"])
def test_a_group_at_its_limit_does_not_hold_up_the_others(group: str) -> None:
    """A young limit of the platform is used up one request at a time; that of a group concerns no other."""
    limit = {"n": 80, "window_s": 60.0, "low_s": 59.0, "high_s": 60.0, "family": "sliding", "since": BEGIN - 100.0}
    later = {"onsets": 5, "clean_from": BEGIN, "raise_at": BEGIN + 3600.0, "raise_every_s": 3600.0}
    learning = made(grouped=bool(group))
    groups = {"": {"rates": []}} | {group: {"rates": [limit | later]}}
    learning.load({"destination": "shop.example", "grouped": bool(group), "groups": groups})
    assert len(learning.quotas(BEGIN)) == 1
    for place in range(75):
        token, at = next(_tokens), BEGIN + 0.02 * place
        learning.sent(token, group, at)
        learning.answered(token, group, kind=Signal.ACCEPTED, sent_at=at, now=at + ANSWER_S, wait_s=None, whole=False)
    assert learning.careful(BEGIN + 2.0) == (not group)
