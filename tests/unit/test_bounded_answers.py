"""What is looked for in an answer takes a bounded number of steps, whatever the answer holds."""

import json

import pytest
from relay.core.model import Item, Outcome
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify, classify_read_back
from relay.wire.oauth import NotGranted, TokenReading
from relay.wire.payload.extract import TreePath
from tests.compiled import compiled_results, compiled_rule

LONG = "list[].[@,@,@,@,@,@,@,@,@,@][].[a,a,a,a,a,a,a,a,a,a][].[@,@][] | [?@ == `7`] | [0]"
"""2,000 entries become 400,000."""
BODY = json.dumps({"errcode": 0, "list": [{"a": 1}] * 2000}).encode()
OK = {"path": "errcode", "in": [0], "as": "ok"}


def ok(body: bytes) -> Answer:
    """A 200 with ``body``."""
    return Answer(200, Headers(), body)


@pytest.mark.parametrize("condition", [{"in": [7]}, {"exists": True}, {"exists": False}, {"regex": "7"}])
def test_a_rule_that_cannot_be_asked_makes_nothing_a_success(condition: dict[str, object]) -> None:
    """Neither it nor a rule behind it: the answer is for a person to look at."""
    rules = [compiled_rule({"path": LONG, "as": "ok", **condition}), compiled_rule(OK)]

    found = classify(ok(BODY), rules=rules, compressed=False, items=1, wall=0.0)

    assert (found.outcome, found.reason) == (Outcome.CONFIRM, "200 OK, no rule matched")
    assert classify_read_back(ok(BODY), rules=rules, wall=0.0).outcome is Outcome.CONFIRM


def test_a_rule_before_it_counts() -> None:
    """What was found before the steps ran out holds."""
    rules = [compiled_rule(OK), compiled_rule({"path": LONG, "in": [7], "as": "reject"})]

    assert classify(ok(BODY), rules=rules, compressed=False, items=1, wall=0.0).outcome is Outcome.OK


def test_a_wait_that_takes_too_long_to_find_is_none() -> None:
    """The throttle itself stands."""
    rule = compiled_rule(OK | {"as": "throttled", "wait": {"path": LONG}})

    found = classify(ok(BODY), rules=[rule], compressed=False, items=1, wall=0.0)

    assert (found.outcome, found.wait_s) == (Outcome.THROTTLED, None)


@pytest.mark.parametrize(
    ("spec", "body"),
    [
        ({"at": LONG, "failed_if": "error"}, BODY),
        ({"at": "list", "index": LONG.replace("list", "@")}, BODY),
        ({"at": "list", "index": "a", "failed_if": "error"}, BODY),  # 2,000 entries about one callback
        ({"at": "list", "index": "a"}, b'{"list":[' + b"[]," * 60_000 + b"{}]}"),
    ],
)
def test_results_that_take_too_long_are_not_read(spec: dict[str, str], body: bytes) -> None:
    """A list of far more entries than callbacks is no list of their results."""
    item = Item(0, "id", b"{}", "k", None, None, 0, 1, 0, 0, 0, maybe_applied=False)
    whole = classify(ok(body), rules=(), compressed=False, items=1, wall=0.0)

    found = compiled_results({"shape": "by_index", **spec}).read(ok(body), whole, [item], wall=0.0)

    assert (found.outcome, found.reason) == (Outcome.CONFIRM, "results: cannot be read")


def test_a_token_that_takes_too_long_to_find_is_none() -> None:
    """The reason says so, and the endpoint did not refuse."""
    reading = TokenReading(access=LONG, expires_in="e", refresh="r", lives_s=1.0)

    granted = reading.read(ok(BODY))

    assert isinstance(granted, NotGranted)
    assert "steps" in granted.reason
    assert not granted.refused


def test_a_number_out_of_range_is_no_fault_of_ours() -> None:
    """1e999 is JSON and has no ceiling: nothing stands there, in an answer and in a payload."""
    rule = compiled_rule({"path": "ceil(n)", "exists": True, "as": "ok"})

    assert classify(ok(b'{"n":1e999}'), rules=[rule], compressed=False, items=1, wall=0.0).outcome is Outcome.CONFIRM
    assert TreePath("floor(n)")({"n": float("inf")}) is None
