"""Hints are claims: each one doubled, contradictory, wrong or seconds early, and what the relay makes of it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from relay.core.model import Outcome, Rate
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from relay.wire.answers.declared import declared_limits
from tests.compiled import compiled_rule

WALL = datetime(2027, 1, 15, 8, 0, tzinfo=UTC).timestamp()
HOUR_S = 3600.0


def date(after_s: float, *, zone: str = "GMT") -> str:
    """The HTTP date so long after ``WALL``, labelled ``zone``."""
    at = datetime.fromtimestamp(WALL, UTC) + timedelta(seconds=after_s)
    return format_datetime(at, usegmt=True).removesuffix("GMT") + zone


def wait_of(*lines: tuple[str, str], status: int = 429, wall: float = WALL, wait: Any = None) -> float | None:
    """Return the wait in the verdict on an answer with these header lines."""
    rules = [] if wait is None else [compiled_rule({"status": status, "as": "throttled", "wait": wait})]
    answer = Answer(status, Headers(lines), b"{}")
    return classify(answer, rules=rules, compressed=False, items=1, wall=wall, cap_s=HOUR_S).wait_s


# Every header that tells a wait, as one line that asks for `s` seconds.
WAITS = [
    ("Retry-After", "{s}"),
    ("RateLimit", '"x";r=0;t={s}'),
    ("RateLimit", "limit=9, remaining=0, reset={s}"),
    ("RateLimit-Reset", "{s}"),
    ("X-RateLimit-Reset", "{s}"),
    ("X-RateLimit-Reset", "{epoch}"),
    ("X-RateLimit-Reset", "{epoch}000"),
    ("X-RateLimit-Reset-After", "{s}"),
    ("X-Rate-Limit-Reset", "{date}"),
    ("X-Rate-Limit-Time-Reset-Ms", "{s}000"),
    ("X-Next-Replenishment-Time", "{epoch}000"),
    ("Retry-After", "{date}"),
]


def _line(form: str, seconds: int) -> str:
    return form.format(s=seconds, epoch=int(WALL) + seconds, date=date(seconds))


@pytest.mark.parametrize(("name", "form"), WAITS)
@pytest.mark.parametrize("status", [429, 503])
def test_doubled(name: str, form: str, status: int) -> None:
    """Two lines, or one with a comma: the longest counts, whatever the order; equal ones are one."""
    twelve, forty = _line(form, 12), _line(form, 40)
    assert wait_of((name, twelve), (name, twelve), status=status) == 12.0
    assert wait_of((name, twelve), (name, forty), status=status) == 40.0
    assert wait_of((name, f"{forty},{twelve}"), status=status) == 40.0


@pytest.mark.parametrize(("name", "form"), [each for each in WAITS if each[0] != "RateLimit"])
@pytest.mark.parametrize("nonsense", ["", "soon", "nan", "1e9", "-", date(900, zone="CST"), date(900, zone="").strip()])
def test_one_of_two_makes_no_sense(name: str, form: str, nonsense: str) -> None:
    """What cannot be read counts as absent, before and after the other."""
    good = _line(form, 12)
    assert wait_of((name, nonsense), (name, good)) == 12.0
    assert wait_of((name, good), (name, nonsense)) == 12.0


@pytest.mark.parametrize(
    "text",
    [
        *(date(30, zone=zone) for zone in ("CST", "EST", "PDT", "MSK", "X", "", "LOCAL")),
        *("2027-01-15T08:00:30", "2027-01-15 08:00:30", "2027-01-15", "08:00:30", "20270115T080030"),
        *("12 seconds", "1m", "PT30S", "0x1e", "+", ",", ",,,", "12;13", "９"),
    ],
)
@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
def test_no_hint(name: str, text: str) -> None:
    """A time without a zone, or with a name that several zones have, and what is no time: no hint at all."""
    assert wait_of((name, text)) is None


@pytest.mark.parametrize(
    "text",
    [
        *(date(30), date(30, zone="UTC"), date(30, zone="+0000"), "Fri Jan 15 08:00:30 2027"),
        *("Friday, 15-Jan-27 08:00:30 GMT", date(30 + 8 * 3600, zone="+0800"), "2027-01-15T08:00:30Z"),
        *("2027-01-15 16:00:30+08:00", "2027-01-15T08:00:30.000Z"),
    ],
)
def test_dates_that_are_read(text: str) -> None:
    """The three forms of RFC 9110 section 5.6.7 and ISO 8601, with a zone that is one; also twice."""
    assert wait_of(("Retry-After", text)) == 30.0
    assert wait_of(("Retry-After", text), ("Retry-After", text)) == 30.0
    assert wait_of(("Retry-After", "5"), ("Retry-After", text), ("Retry-After", "7")) == 30.0


@pytest.mark.parametrize(
    ("lines", "wait_s"),
    [
        ([("Retry-After", "0"), ("X-RateLimit-Reset", "30")], 30.0),  # no time at all leaves it to the next
        ([("Retry-After", date(-60)), ("RateLimit", '"x";r=0;t=30')], 30.0),
        ([("Retry-After", "soon"), ("RateLimit-Policy", '"x";q=5;w=0, "y";q=9;w=60')], 60.0),
        ([("Retry-After", "soon"), ("RateLimit-Policy", '"x";q=5;w=-60')], None),
        ([("Retry-After", "5"), ("X-RateLimit-Reset", "300")], 5.0),  # said of this request, not of a window
        ([("RateLimit-Reset", "5"), ("X-RateLimit-Reset", "30")], 30.0),
        ([("Retry-After", "9" * 18), ("Retry-After", "5")], HOUR_S),
        ([("Retry-After", ",".join(["5"] * 10_000))], 5.0),
    ],
)
def test_contradictory(lines: list[tuple[str, str]], wait_s: float | None) -> None:
    """Headers that disagree: the more explicit one, unless it asks for nothing; absurd ones meet the cap."""
    assert wait_of(*lines) == wait_s


@pytest.mark.parametrize("told_s", [-240.0, -4.0, 0.0, 4.0, 240.0])
def test_clocks_that_have_drifted(told_s: float) -> None:
    """Times are taken relative to the answer's own Date: 20 s are 20 s."""
    lines = [("Date", date(told_s))]
    assert wait_of(("Retry-After", date(told_s + 20)), *lines) == 20.0
    assert wait_of(("X-RateLimit-Reset", str(int(WALL + told_s + 20))), *lines) == 20.0
    assert wait_of(("Retry-After", date(told_s - 3)), *lines) == 0.0  # seconds early: the backoff holds
    assert wait_of(*lines, wait={"align": "day"}) == (16 * 3600.0 - told_s)


@pytest.mark.parametrize("off_h", [-12, -5, 8, 9])
@pytest.mark.parametrize("unit", ["Retry-After", "X-RateLimit-Reset", "rule"])
def test_date_labelled_wrong(off_h: int, unit: str) -> None:
    """Local time called GMT in Date does not make hours, or the past, of 20 s; nor does our own clock, not set yet."""
    lines = [("Date", date(off_h * 3600.0)), ("Retry-After" if unit == "Retry-After" else "X-RateLimit-Reset", "")]
    lines[1] = (lines[1][0], date(20) if unit == "Retry-After" else str(int(WALL + 20)))
    wait = {"header": "X-RateLimit-Reset", "unit": "epoch_s"} if unit == "rule" else None
    assert wait_of(*lines, wait=wait) == 20.0
    honest = [("Date", date(0)), lines[1]]
    assert wait_of(*honest, wall=WALL + off_h * 3600.0, wait=wait) == 20.0


@pytest.mark.parametrize(("align", "period_s"), [("minute", 60.0), ("hour", HOUR_S), ("day", 86400.0)])
@pytest.mark.parametrize("dated", [True, False])
def test_refusal_just_after_a_boundary(align: str, period_s: float, dated: bool) -> None:
    """It is taken for the window before: seconds, growing, and a whole window only when it is not that."""
    midnight = datetime(2027, 1, 16, tzinfo=UTC).timestamp()

    def wait_at(after_s: float) -> float | None:
        at = midnight + after_s
        lines = [("Date", date(at - WALL))] if dated else []
        return wait_of(*lines, wall=at + 4.0 if dated else at, wait={"align": align})

    assert [wait_at(after_s) for after_s in (-4.0, 0.0, 2.0, 5.0)] == [4.0, 1.0, 3.0, 6.0]
    assert wait_at(-20.0) == 20.0
    assert wait_at(40.0) == period_s - 40.0


@pytest.mark.parametrize("off_h", [-5, 8])
def test_aligned_wait_with_a_date_labelled_wrong(off_h: int) -> None:
    """Our midnight is asked at, whatever the Date says: never later than the sooner of both."""
    lines = [("Date", date(off_h * 3600.0))]
    assert wait_of(*lines, wait={"align": "day"}) == min(16, (16 - off_h) % 24) * 3600.0


@pytest.mark.parametrize(
    ("wait", "lines", "wait_s"),
    [
        ({"header": "X-Wait"}, ["12", "12"], 12.0),
        ({"header": "X-Wait", "unit": "s"}, ["12", "40"], 40.0),
        ({"header": "X-Wait", "unit": "ms"}, ["1500, x"], 1.5),
        ({"header": "X-Wait", "unit": "epoch_s"}, [str(int(WALL + 7)), str(int(WALL - 7))], 7.0),
        ({"header": "X-Wait", "unit": "epoch_ms"}, [str(int(WALL + 7) * 1000), "soon"], 7.0),
        ({"header": "X-Wait", "unit": "date"}, [date(9), date(5)], 9.0),
        ({"header": "X-Wait", "unit": "date"}, [date(9, zone="CST")], None),
        ({"header": "X-Wait", "regex": r"(\d+)"}, ["in 12 (of 900)", "in 40"], 40.0),
        ({"header": "X-Wait", "regex": r"(\d+)"}, ["in 12 (of 900)"], 12.0),
        ({"header": "X-Wait", "regex": r"remaining=0, reset=(\d+)"}, ["limit=9, remaining=0, reset=12"], 12.0),
    ],
)
def test_waits_of_rules(wait: Mapping[str, Any], lines: list[str], wait_s: float | None) -> None:
    """A rule's header may stand there twice too, in every unit."""
    assert wait_of(*(("X-Wait", line) for line in lines), wait=wait) == wait_s


@pytest.mark.parametrize(
    ("lines", "rates"),
    [
        ([("X-RateLimit-Limit-Minute", "100"), ("X-RateLimit-Limit-Minute", "100")], [Rate(100, 60.0)]),
        ([("X-RateLimit-Limit-Minute", "100, 60, x")], [Rate(60, 60.0)]),
        ([("RateLimit-Policy", '"a";q=100;w=60'), ("RateLimit-Policy", '"b";q=80;w=60')], [Rate(80, 60.0)]),
        ([("X-RateLimit-Limit", "100, 100;w=60"), ("X-RateLimit-Limit", "100, 100;w=60")], [Rate(100, 60.0)]),
        ([("RateLimit-Policy", '"a";q=0;w=60, "b";q=5;w=0, "c";q=-5;w=60, "d";q=1e3;w=60')], []),
    ],
)
def test_declared_limits(lines: list[tuple[str, str]], rates: list[Rate]) -> None:
    """Limits that stand there twice: of two counts for a window the lower; absurd ones declare nothing."""
    assert list(declared_limits(Headers(lines))) == rates


def test_503_with_an_unreadable_hint_may_have_been_applied() -> None:
    """Only a Retry-After that can be read makes a 503 a refusal in so many words."""

    def ambiguous(*values: str) -> bool:
        answer = Answer(503, Headers(("Retry-After", value) for value in values), b"")
        verdict = classify(answer, rules=[], compressed=False, items=1, wall=WALL)
        assert verdict.outcome is Outcome.THROTTLED
        return verdict.ambiguous

    assert not ambiguous("12", "12")
    assert not ambiguous("12", "soon")
    assert ambiguous(date(30, zone="CST"))
