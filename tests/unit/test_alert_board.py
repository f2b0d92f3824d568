"""When alerts are told: first, again, resolved, gathered, silenced, in quiet hours, over a restart."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any

import facts
import msgspec
import pytest
import structlog
from msgspec.structs import replace
from relay.alerts.board import Board, Notice, Silence
from relay.alerts.facts import PlatformFacts, ReconcileFacts, RelayFacts
from relay.alerts.mailbox import Mailbox
from relay.alerts.quiet import is_quiet
from relay.alerts.rules import AlertKey, Trouble, look
from relay.alerts.words import sentences
from relay.config.schema.alerts import AlertRules, QuietHours
from relay.core.model import Accepted, Expired, NewCallback
from relay.policy.objective import Kept
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.views.callback_view import CallbackView
from relay.views.past.objective import ObjectiveView
from tests.clocks import FakeClock

NOW = 1_790_000_000.0
RULES = AlertRules.model_validate({}).by_name()
LATE = Trouble(AlertKey("late", "shop-a"), {"age_s": 400.0, "pending": 3, "state": "ok"})


class Times:
    """A board with the rounds that a daemon makes."""

    def __init__(self, **rules: Any) -> None:
        self.board = Board()
        self.rules = AlertRules.model_validate(rules).by_name()

    def at(self, seconds: float, *found: Trouble, quiet: bool = False, blind: tuple[str, ...] = ()) -> list[str]:
        """Make one round; return what was told, such as ``late firing``."""
        now = NOW + seconds
        self.board.see(found, blind, self.rules, now)
        due = self.board.due(self.rules, now, quiet=quiet, loud=("store-failed",))
        self.board.tell(due, now)
        return [f"{notice.alert.rule} {notice.status}" for notice in due]


def dead(group: str, grown: int) -> Trouble:
    """Return what a look finds of a group to which so many came."""
    return Trouble(AlertKey("dead-letters", "shop-a", group), {"dead": 5, "group": group}, grown=grown)


def test_an_alert_is_told_once_again_after_its_repeat_and_when_it_is_over() -> None:
    """The worked example of the module: told at 0, again after an hour, resolved a minute after it was seen last."""
    times = Times()
    assert times.at(0, LATE) == ["late firing"]
    assert times.at(10, LATE) == []
    assert times.at(3590, LATE) == []
    assert times.at(3600, LATE) == ["late firing"]
    assert times.at(3650) == []
    assert times.at(3660) == ["late resolved"]
    assert times.at(3670) == []
    (past,) = times.board.past
    assert (past.since, past.until) == (NOW, NOW + 3600)


def test_what_comes_and_goes_within_a_minute_is_one_alert() -> None:
    """A platform at the edge of its rule does not make a message a round."""
    times = Times()
    assert times.at(0, LATE) == ["late firing"]
    assert [times.at(step * 20.0, *([LATE] if step % 2 else [])) for step in range(1, 20)] == [[]] * 19


def test_what_must_last_is_told_when_it_has_lasted() -> None:
    """``after: 1m``: a platform that is down for half a minute is nobody's news, before or after."""
    broken = Trouble(AlertKey("broken", "shop-a"), {"pending": 1}, after_s=60.0)
    times = Times()
    assert times.at(0, broken) == []
    assert times.at(30, broken) == []
    assert times.at(95) == []
    assert times.board.alerts == times.board.past == []
    assert times.at(100, broken) == []
    assert times.at(160, broken) == ["broken firing"]


def test_a_group_of_dead_letters_is_told_new_tenfold_and_back_after_a_day() -> None:
    """1 is told, 9 more are not, the tenth time as many is; so is one that comes after a day without any."""
    times = Times(**{"dead-letters": {"digest": "0s"}})
    assert times.at(0, dead("exhausted", 1)) == ["dead-letters firing"]
    assert times.at(10, dead("exhausted", 8)) == []
    assert times.at(20, dead("exhausted", 1)) == ["dead-letters firing"]
    assert times.at(86400, dead("exhausted", 0)) == []
    assert times.at(86430, dead("exhausted", 1)) == ["dead-letters firing"]
    assert times.at(86440, dead("exhausted", 1)) == []
    assert times.board.alerts[0].size == 12


def test_dead_letters_are_named_by_the_reason_that_most_of_them_have() -> None:
    """With its code, and how many of all new ones it is; a later look without any forgets neither."""
    times, key = Times(), AlertKey("dead-letters", "shop-a", "reject")
    facts = RelayFacts(
        platforms={"shop-a": PlatformFacts(dead=9, died={"reject": 1}, died_of={"reject": {"rejected: 410 Gone": 1}})}
    )
    (first,) = look(facts, {"dead-letters": RULES["dead-letters"]}, [])[0]
    assert times.at(0, first) == ["dead-letters firing"]
    (alert,) = times.board.alerts
    assert (
        sentences(*key[:2], alert.values, alert.size, "en").summary
        == "shop-a has 1 more dead letter: rejected: 410 Gone"
    )
    more = Trouble(key, {"dead": 20, "group": "reject"}, 11, {"rejected: errcode=7": 8, "rejected: 410 Gone": 3})
    assert times.at(700, more) == ["dead-letters firing"]
    times.at(710, Trouble(key, {"dead": 20, "group": "reject"}))
    told = [sentences(*key[:2], alert.values, alert.size, language).summary for language in ("en", "zh-CN")]
    assert told == [
        "shop-a has 12 more dead letters: rejected: errcode=7 (8 of them)",
        "shop-a 新增 12 条死信：rejected: errcode=7（其中 8 条）",
    ]


def test_a_digest_gathers_what_comes_after_a_message() -> None:
    """The first group is told at once; two more within ten minutes come together when these are over."""
    times = Times()
    first, second, third = dead("a", 1), dead("b", 1), dead("c", 1)
    assert times.at(0, first) == ["dead-letters firing"]
    still = [dead(group, 0) for group in "abc"]
    assert times.at(10, still[0], second) == []
    assert times.at(20, still[0], still[1], third) == []
    assert times.at(590, *still) == []
    assert times.at(600, *still) == ["dead-letters firing"] * 2


def test_a_silence_holds_what_it_is_about_and_ends() -> None:
    """Nobody is told of the rule meanwhile, others speak, and what still fires then is told."""
    times = Times()
    times.board.silences["late"] = Silence(NOW + 100, "known", "ops")
    assert times.at(0, LATE, Trouble(AlertKey("store-failed"))) == ["store-failed firing"]
    assert times.at(90, LATE) == ["store-failed resolved"]
    assert times.at(100, LATE) == ["late firing"]
    assert times.board.silences == {}


def test_quiet_hours_hold_all_but_the_loud_until_they_are_over() -> None:
    """In the night the store is told, the platform waits for the morning; what was over by then is not told at all."""
    times = Times()
    gone = Trouble(AlertKey("held", "shop-b"), {"held": 1})
    assert times.at(0, LATE, gone, Trouble(AlertKey("store-failed")), quiet=True) == ["store-failed firing"]
    assert times.at(300, LATE, quiet=True) == ["store-failed resolved"]
    assert times.at(600, LATE) == ["late firing"]
    assert [alert.rule for alert in times.board.past] == ["held", "store-failed"]


def test_rules_that_cannot_look_leave_everything_as_it_was() -> None:
    """While the store does not answer nobody is told that a platform recovered."""
    times = Times()
    times.at(0, LATE)
    assert times.at(500, blind=("late",)) == []
    assert times.at(520, LATE) == []
    assert times.at(600) == ["late resolved"]


def test_a_kept_board_tells_nothing_twice() -> None:
    """What was told and silenced before a restart is so after it."""
    times = Times()
    times.at(0, LATE)
    times.board.silences["held"] = Silence(NOW + 1000, "", "ops")
    again = Times()
    again.board = msgspec.json.decode(msgspec.json.encode(times.board), type=Board)
    assert again.at(30, LATE, Trouble(AlertKey("held", "shop-b"), {"held": 1})) == []


def test_a_rule_that_is_switched_off_goes_without_a_word() -> None:
    """No resolved for what nobody wants to know any more."""
    times = Times()
    times.at(0, LATE)
    times.rules = AlertRules.model_validate({"late": "off"}).by_name()
    assert times.at(70) == []
    assert times.board.alerts == []


@pytest.mark.parametrize(
    ("clock", "quiet"),
    [("22:59:59", False), ("23:00:00", True), ("03:00:00", True), ("06:59:59", True), ("07:00:00", False)],
)
def test_quiet_hours_are_of_their_zone(clock: str, quiet: bool) -> None:
    """From 23:00 to 07:00 in Shanghai, which is from 15:00 to 23:00 in UTC."""
    hours = QuietHours.model_validate({"from": "23:00", "to": "07:00", "tz": "Asia/Shanghai"})
    moment = datetime.combine(
        datetime(2026, 11, 29, tzinfo=UTC), time.fromisoformat(clock), timezone(timedelta(hours=8))
    )
    assert is_quiet(hours, moment.timestamp()) is quiet
    assert is_quiet(None, moment.timestamp()) is False


def test_quiet_hours_within_a_day() -> None:
    """From 12:00 to 13:00 is an hour, not twenty-three."""
    hours = QuietHours.model_validate({"from": "12:00", "to": "13:00"})
    noon = datetime(2026, 11, 29, 12, 30, tzinfo=UTC).timestamp()
    assert (is_quiet(hours, noon), is_quiet(hours, noon + 3600)) == (True, False)


ILL = PlatformFacts(
    state="broken",
    pending=7,
    held=2,
    unopened=1,
    dead=4,
    oldest_due_s=8700.0,
    out_per_s=0.0,
    drain_s=float("inf"),
    expires_s=86400.0,
    died={"exhausted": 4},
    adopt="rate: 100/min",
    objective=ObjectiveView(
        within_seconds=90.0,
        share=0.99,
        ratio_1h=0.5,
        ratio_24h=0.9,
        remaining_1h=0.0,
        remaining_24h=0.0,
        burns=50.0,
        overdue=7,
    ),
)


def test_each_rule_finds_what_it_is_about() -> None:
    """One snapshot with everything wrong: each rule finds its own, once."""
    facts = RelayFacts(
        platforms={"shop-a": ILL},
        store_failed=True,
        store_damage=1,
        used_percent=81.0,
        full_in_s=7200.0,
        disk_free_bytes=1,
        unaccounted=1,
        refused_problems=2,
        clock_step_s=-3600.0,
        tokens_lacking=("app",),
        hosts_troubled={"edge-2": "gone"},
        acceptors_lacking=True,
        certificates={("shop-a", "server"): 86400.0},
        reveals_refused=("ann",),
        reconciled={"shop-a": ReconcileFacts(differences=3)},
    )
    found, blind = look(facts, RULES, [])
    assert blind == frozenset()
    assert sorted(trouble.key.rule for trouble in found) == sorted(RULES)


def test_a_relay_that_is_well_alarms_nobody() -> None:
    """Nothing is found about a platform that delivers, a store with room and a clock that was left alone."""
    busy = PlatformFacts(pending=9, oldest_due_s=900.0, out_per_s=2.0, drain_s=60.0, expires_s=86400.0, dead=3)
    begun = PlatformFacts(pending=1, oldest_due_s=30.0, drain_s=float("inf"), expires_s=86400.0)
    fresh = PlatformFacts(pending=9, oldest_due_s=900.0, out_per_s=None)
    facts = RelayFacts(
        platforms={"a": busy, "b": fresh, "c": begun},
        used_percent=20.0,
        disk_free_bytes=2**40,
        unaccounted=0,
        certificates={("a", "client"): 30 * 86400.0},
    )
    assert look(facts, RULES, []) == ([], frozenset())


@pytest.mark.parametrize(
    ("drain_s", "oldest_s", "expires"),
    [
        (86401.0, 1.0, True),
        (86399.0, 1.0, False),
        (None, 43201.0, True),
        (None, 43199.0, False),
        (float("inf"), 8641.0, True),
        (float("inf"), 8639.0, False),
    ],
)
def test_a_backlog_that_outlives_its_callbacks(drain_s: float | None, oldest_s: float, expires: bool) -> None:
    """With 24 hours to live: drains later, waited half of it, or a tenth while it grows."""
    platform = PlatformFacts(oldest_due_s=oldest_s, out_per_s=1.0, drain_s=drain_s, expires_s=86400.0)
    found, _ = look(RelayFacts(platforms={"a": platform}), RULES, [])
    assert [trouble.key.rule for trouble in found] == ["expiring"] * expires


@pytest.mark.parametrize(("late", "fires"), [(0, False), (199, False), (200, True), (5000, True)])
def test_an_objective_that_burns_twice_as_fast_as_it_may(late: int, fires: bool) -> None:
    """With 99 % of 10,000 in time 100 may be late: from 200 on it is told, in both languages."""
    kept = Kept(ended=10_000, late=late)
    view = ObjectiveView(
        within_seconds=90.0, share=0.99, ratio_1h=kept.ratio, ratio_24h=1.0, remaining_1h=0.0, remaining_24h=0.4,
        burns=kept.burns(0.99), overdue=0,
    )  # fmt: skip
    found, _ = look(RelayFacts(platforms={"a": PlatformFacts(objective=view), "b": PlatformFacts()}), RULES, [])
    assert [trouble.key for trouble in found] == [AlertKey("objective", "a")] * fires
    for trouble in found:
        said = sentences("objective", "a", trouble.values, 1, "en")
        assert "of the last hour within 1m30s, and 99 % is wanted" in said.summary
        assert "40 %" in sentences("objective", "a", trouble.values, 1, "zh-CN").meaning


def test_a_store_that_does_not_answer_blinds_the_rules_about_it_alone() -> None:
    """The store's failure is found all the same."""
    found, blind = look(RelayFacts(platforms=None, store_failed=True), RULES, [AlertKey("late", "shop-a")])
    assert [trouble.key.rule for trouble in found] == ["store-failed"]
    assert {"late", "held", "dead-letters", "store-full", "unaccounted"} <= blind
    assert "store-failed" not in blind


def test_a_notice_is_about_an_alert() -> None:
    """Dead letters fire until a person has seen to them, also when no more come."""
    times = Times()
    times.at(0, dead("exhausted", 4))
    facts = RelayFacts(
        platforms={"shop-a": PlatformFacts(dead=4)}, used_percent=1.0, disk_free_bytes=2**40, unaccounted=0
    )
    found, _ = look(facts, RULES, times.board.known())
    assert [trouble.key for trouble in found] == [AlertKey("dead-letters", "shop-a", "exhausted")]
    assert look(RelayFacts(platforms={"shop-a": PlatformFacts()}), RULES, times.board.known())[0] == []
    assert Notice(times.board.alerts[0], "firing").alert.key.about == "shop-a"


class Queue:
    """Holds one message, which stands as ``found`` says."""

    def __init__(self) -> None:
        self.found = facts.callback()
        self.upkeep: list[str] = []

    async def accept(self, rows: Sequence[NewCallback]) -> Accepted:
        return Accepted(["m"] * len(rows), frozenset())

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView:
        return self.found

    async def expire(self) -> Expired:
        self.upkeep.append("expire")
        return Expired((), more=False, next_at=math.inf)

    async def prune(self) -> bool:
        self.upkeep.append("prune")
        return False


async def test_each_further_try_of_a_message_is_counted_once() -> None:
    """However often it is looked at; what is under way is no try yet. Each look also ends what is over its time."""
    queue, metrics = Queue(), Metrics()
    events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=metrics)
    mailbox = Mailbox(queue, clock=FakeClock(), events=events)
    await mailbox.post("robot", [b"{}"], [AlertKey("late")])
    refused, under_way = facts.attempt(outcome="retry"), facts.attempt(outcome=None)
    counted = []
    for tries in ([], [under_way], [refused], [refused, under_way], [refused] * 2, [refused] * 2, [refused] * 4):
        queue.found = replace(queue.found, attempts=tries)
        await mailbox.look()
        counted.append(metrics.alerts_sent["robot", "retried"])
    assert counted == [0, 0, 0, 0, 1, 1, 3]
    assert (mailbox.waiting(), mailbox.unsent()) == ({"robot": 1}, {AlertKey("late")})
    queue.found = replace(queue.found, state="delivered", attempts=[refused] * 4 + [facts.attempt()])
    await mailbox.look()
    assert (metrics.alerts_sent["robot", "retried"], metrics.alerts_sent["robot", "ok"]) == (4, 1)
    assert (mailbox.waiting(), mailbox.unsent()) == ({}, set())
    assert queue.upkeep == ["expire", "prune"] * 8
    await mailbox.post("robot", [b"{}"], [AlertKey("late")])
    mailbox.forget(["another"])  # a reload took the target away
    assert (mailbox.waiting(), mailbox.unsent(), metrics.alerts_sent["robot", "dropped"]) == ({}, set(), 1)
