"""Waits as a whole, from headers to the gate: whatever a platform says, it is neither stuck nor asked in a hot loop."""

import random
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

from hypothesis import example, given
from hypothesis import strategies as st
from relay.core.model import Batch, Item, Outcome
from relay.core.settlement import AttemptResult
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.settle.answer import Attempted, Budget, decide
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify

CAP_S = 3600.0
LONGEST_S = CAP_S * 1.1
HOLD_S = 66.0
BASE_S = 2.0
WALL = datetime(2027, 1, 15, 8, 0, tzinfo=UTC).timestamp()

ZONES = st.sampled_from([-12, -5, 0, 1, 8, 14])
OFFSETS = st.sampled_from([-1e8, -86400.0, -30.0, -1.0, 0.0, 1.0, 30.0, 86400.0, 1e8])


def _moment(after_s: float, zone_h: int, honest: bool) -> str:
    """A date in some zone; where not ``honest`` it is labelled with another one than it was written in."""
    at = datetime.fromtimestamp(WALL, UTC) + timedelta(seconds=after_s)
    local = at.astimezone(timezone(timedelta(hours=zone_h)))
    return local.isoformat() if honest else format_datetime(local.replace(tzinfo=UTC), usegmt=True)


MOMENTS = st.builds(_moment, OFFSETS, ZONES, st.booleans())
NUMBERS = st.sampled_from(
    [
        "0",
        "-1",
        "-99999999",
        "5",
        "3000",
        "0.001",
        "1e9",
        "nan",
        "inf",
        "-inf",
        "999999999999999999",
        "",
        "\u0663",
        "5, 7",
    ]
) | st.builds(lambda after_s, unit: str(int((WALL + after_s) * unit)), OFFSETS, st.sampled_from([1, 1000]))
TIMES = NUMBERS | MOMENTS | st.text(max_size=12)
FIELDS = st.builds('"x";r={};t={}'.format, st.sampled_from(["0", "1", "-1", "x"]), NUMBERS)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Retry-After": TIMES,
        "RateLimit": FIELDS,
        "RateLimit-Policy": st.builds('"x";q=1;w={}'.format, NUMBERS),
        "X-RateLimit-Remaining": st.sampled_from(["0", "1", "-1", "none"]),
        "X-RateLimit-Reset": TIMES,
        "Date": MOMENTS | st.text(max_size=12),
    },
)
STEPS = st.sampled_from([0.0, 0.0, 0.0, -86400.0, 3600.0, -1.7e9, 1e9])
ANSWERS = st.lists(
    st.tuples(st.sampled_from([200, 200, 429, 429, 503, 408, 500, 401]), HEADERS, STEPS), min_size=1, max_size=12
)
GROUPS = st.sampled_from(["", "shop"])


def _play(answers: list[tuple[int, dict[str, str], float]], group: str, seed: int) -> list[tuple[int, float]]:
    """Send as soon as the gate allows and answer so; return status and wait of each; the wall clock may step."""
    gate = Gate(Breaker(BreakerTerms(5, 30.0)), base_s=BASE_S, cap_s=600.0)
    rng = random.Random(seed)
    now, skew, waits = 1_000_000.0, WALL - 1_000_000.0, []
    for seq, (status, headers, step) in enumerate(answers):
        started_at, now, skew = now, now + 0.1, skew + step
        answer = Answer(status, Headers(headers.items()), b"{}")
        verdict = classify(answer, rules=[], compressed=False, items=1, wall=now + skew, cap_s=CAP_S)
        item = Item(seq, str(seq), b"{}", None, None, None, now, now + 1e9, 0, 0, 0.0, False)
        batch = Batch(seq, str(seq), 1, seq, "p", group, [item], now, seq)
        attempted = Attempted(
            batch, verdict, AttemptResult(verdict.outcome, now, 0.1), started_at, gate.first_after_stop(group)
        )
        settlement = decide(attempted, budget=Budget(1000, BASE_S, 600.0), gate=gate, now=now, rng=rng)
        closed, _ = gate.groups.closed(now, [])
        opens_at = max(gate.opens_at(now), closed.get(group, 0.0))
        for part in (*settlement.requeue, *([settlement.resend] if settlement.resend else [])):
            assert part.due_at <= now + LONGEST_S
            if verdict.outcome is Outcome.THROTTLED:
                assert part.due_at >= opens_at
        waits.append((status, opens_at - now))
        now = opens_at
    return waits


@given(ANSWERS, GROUPS, st.integers(0, 9))
@example([(429, {"Retry-After": "5", "RateLimit": '"x";r=0;t=3000'}, 0.0)], "", 0)
@example([(429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0)] * 5, "shop", 0)
@example([(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(WALL + 30))}, 1e9)] * 3, "", 0)
def test_waits_are_bounded(answers: list[tuple[int, dict[str, str], float]], group: str, seed: int) -> None:
    """After a refusal the wait is above 0 and at most a tenth over the cap; after an accepted answer a minute or so."""
    for status, wait_s in _play(answers, group, seed):
        assert 0.0 <= wait_s <= (HOLD_S if status == 200 else LONGEST_S)
        if status in (429, 408, 503, 401):
            assert wait_s > 0.0


@given(st.lists(st.tuples(st.sampled_from([429, 503]), HEADERS, STEPS), min_size=2, max_size=10), GROUPS)
@example([(429, {"Retry-After": "0"}, 0.0)] * 10, "")
@example([(429, {"Retry-After": "-1"}, 0.0)] * 10, "shop")
@example([(429, {"RateLimit": '"x";r=0;t=0'}, 0.0)] * 10, "")
def test_refusals_in_a_row_are_no_hot_loop(answers: list[tuple[int, dict[str, str], float]], group: str) -> None:
    """From the second refusal on the wait is at least the backoff's base, and grows, whatever the hints say."""
    waits = _play(answers, group, seed=1)
    for n, (_, wait_s) in enumerate(waits[1:], start=1):
        assert wait_s >= min(BASE_S * 2**n, 600.0) / 2


@given(ANSWERS, GROUPS)
def test_platform_is_never_stuck(answers: list[tuple[int, dict[str, str], float]], group: str) -> None:
    """Whatever was said before: after an answer that accepts and asks for nothing, the next request goes at once."""
    *_, (_, wait_s) = _play([*answers, (200, {}, 0.0)], group, seed=2)
    assert wait_s == 0.0


def test_contradictory_hints() -> None:
    """Retry-After beats RateLimit: 5 s, not 3,000."""
    ((_, wait_s),) = _play([(429, {"Retry-After": "5", "RateLimit": '"x";r=0;t=3000'}, 0.0)], "", 0)
    assert 5.0 <= wait_s <= 5.5
