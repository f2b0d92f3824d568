"""What an answer says of each callback of its batch."""

import json
from typing import Any

import pytest
from relay.core.errors import Unbuildable, Unfit
from relay.core.model import Item, Outcome, Verdict
from relay.wire.answers.answer import Answer, Failure, Headers
from relay.wire.answers.classify import classify
from relay.wire.payload.target import TemplateFields
from tests.compiled import compiled_results

BRAZE = {"shape": "by_index", "at": "errors", "index": "index"}
MIXPANEL = {"shape": "by_index", "at": "failed_records", "index": "index", "failed_if": "message"}
WOO = {"shape": "by_index", "at": "update", "failed_if": "error", "covers": "all"}
BY_ID = {"shape": "by_id", "at": "failed", "id": "ref", "item_id": "order.id"}


def items(count: int) -> list[Item]:
    """Items with order ids o0, o1, ..."""
    return [
        Item(n, f"id{n}", b'{"order":{"id":"o%d"}}' % n, f"k{n}", None, None, 0, 1, 0, 0, 0, maybe_applied=False)
        for n in range(count)
    ]


def read(spec: dict[str, Any], body: object, *, status: int = 200, count: int = 3, complete: bool = True) -> Verdict:
    """The verdict on a batch answered with ``body``."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(status, Headers(), raw, complete)
    whole = classify(answer, rules=(), compressed=False, items=count, wall=0.0)
    return compiled_results(spec).read(answer, whole, items(count), wall=0.0)


def outcomes(verdict: Verdict) -> str:
    """The items' outcomes, in short; the whole one's where there are none."""
    return " ".join(one.outcome for one in verdict.items) or f"all {verdict.outcome}"


@pytest.mark.parametrize(
    ("spec", "body", "expected"),
    [
        (BRAZE, {"message": "success"}, "all ok"),
        (BRAZE, {"errors": []}, "all ok"),
        (BRAZE, {"errors": [{"type": "bad", "index": 1}]}, "ok reject ok"),
        (BRAZE, {"errors": [{"index": "1"}, {"index": 2.0}]}, "ok reject reject"),
        # a failure that names nobody we know leaves open who it was
        (BRAZE, {"errors": [{"index": 3}]}, "confirm confirm confirm"),
        (BRAZE, {"errors": [{"index": 0}, {"index": None}]}, "reject confirm confirm"),
        (BRAZE, {"errors": [{"index": True}]}, "confirm confirm confirm"),
        (WOO, {"update": [{"id": 1}, {"id": None, "error": {"code": "x"}}, {"id": 3}]}, "ok reject ok"),
        (WOO, {"update": [{"id": 1}, {"id": 2}, {"id": 3, "error": None}]}, "all ok"),
        (WOO, {"update": [{"id": 1}, {"error": {}}, {"error": 0}]}, "ok ok reject"),
        (WOO, {"update": [{"id": 1}, {"id": 2}]}, "confirm confirm confirm"),
        (WOO, {}, "confirm confirm confirm"),
        (BY_ID, {"failed": [{"ref": "o2"}]}, "ok ok reject"),
        (BY_ID, {"failed": [{"ref": "o2"}, {"ref": "elsewhere"}]}, "confirm confirm reject"),
        (
            BY_ID | {"covers": "all", "failed_if": "bad"},
            {"failed": [{"ref": "o0"}, {"ref": "o1", "bad": 1}]},
            "ok reject confirm",
        ),
        (BY_ID | {"item_id": "{key}"}, {"failed": [{"ref": "k0"}]}, "reject ok ok"),
        (BY_ID | {"item_id": "{id}"}, {"failed": [{"ref": "id1"}]}, "ok reject ok"),
    ],
)
def test_an_answer_that_is_ok(spec: dict[str, Any], body: object, expected: str) -> None:
    """Named items failed; the others are ok, or unclear where the list should have named them or names strangers."""
    assert outcomes(read(spec, body)) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"failed_records": [{"index": 2, "message": "no time"}]}, "ok ok reject"),
        (400, {"failed_records": []}, "all reject"),
        (400, {"error": "malformed"}, "all reject"),
        (400, b"<html>", "all reject"),
        (422, {"failed_records": [{"index": 2, "message": "no time"}]}, "all reject"),
        (500, {"failed_records": [{"index": 2, "message": "no time"}]}, "all retry"),
        (429, {"failed_records": [{"index": 2, "message": "no time"}]}, "all throttled"),
    ],
)
def test_an_answer_that_is_not_ok(status: int, body: object, expected: str) -> None:
    """Only a 400 with failed entries is a partial success; every other refusal is about the whole batch."""
    assert outcomes(read(MIXPANEL, body, status=status)) == expected


@pytest.mark.parametrize(
    "body", [b"<html>ok</html>", b'{"errors":', b"\xff\xfe", {"errors": {"a": 1}}, {"errors": "none"}]
)
def test_a_list_that_cannot_be_read_is_no_success(body: object) -> None:
    """A 200 whose list of failures cannot be read leaves every item open."""
    assert outcomes(read(BRAZE, body)) == "all confirm"
    assert outcomes(read(BRAZE, {"errors": []}, complete=False)) == "all confirm"


def test_an_empty_answer_names_nobody() -> None:
    """A 204 failed nobody; where every item must be named it leaves all open."""
    assert outcomes(read(BRAZE, b"", status=204)) == "all ok"
    assert outcomes(read(WOO, b"", status=204)) == "all confirm"


def test_no_answer_is_left_as_it_is() -> None:
    """A timeout says nothing of single items."""
    failure = Failure("timeout", connected=True)
    whole = classify(failure, rules=(), compressed=False, items=2, wall=0.0)
    assert compiled_results(BRAZE).read(failure, whole, items(2), wall=0.0) is whole


def test_failed_entries_are_classified() -> None:
    """Rules look into the entry, its text and the answer's status; what none knows is a reject."""
    rules = [
        {"path": "code", "in": [7], "as": "retry", "wait": "5s"},
        {"path": "code", "in": ["dup"], "as": "duplicate"},
        {"regex": "slow down", "as": "throttled"},
        {"status": 201, "path": "code", "in": [9], "as": "confirm"},
    ]
    body = {"errors": [{"index": n, "code": code} for n, code in enumerate([7, "dup", "slow down!", 9, 1])]}
    verdict = read({**BRAZE, "classify": rules}, body, status=201, count=6)
    assert outcomes(verdict) == "retry duplicate throttled confirm reject ok"
    assert (verdict.outcome, verdict.reason) == (Outcome.OK, "results: partly accepted")
    assert verdict.items[0].wait_s == 5.0
    assert verdict.items[0].reason == "code=7"


def test_the_platforms_own_words_are_kept() -> None:
    """The message is what marks the failure, or the entry: on one line, printable, short; no reason holds it."""
    verdict = read(
        MIXPANEL,
        {"failed_records": [{"index": 0, "message": "bad\ntime"}, {"index": 1, "message": "x" * 999}]},
        status=400,
    )
    assert verdict.items[0].message == "bad time"
    assert len(verdict.items[1].message) == 300
    assert {one.reason for one in verdict.items} == {"results", "400 Bad Request"}
    assert read(BRAZE, {"errors": [{"index": 0, "type": "no"}]}).items[0].message == '{"index": 0, "type": "no"}'


def test_the_worst_entry_of_an_item_counts() -> None:
    """An item named twice is not delivered because one of its entries is good; same ids share their entry."""
    spec = {"shape": "by_id", "at": "r", "id": "i", "item_id": "same", "failed_if": "bad"}
    twins = [item._replace(payload=b'{"same":1}') for item in items(2)]
    answer = Answer(200, Headers(), b'{"r":[{"i":1},{"i":"1","bad":"x"},{"i":1}]}')
    whole = classify(answer, rules=(), compressed=False, items=2, wall=0.0)
    assert outcomes(compiled_results(spec).read(answer, whole, twins, wall=0.0)) == "reject reject"


def test_nothing_accepted_takes_the_items_outcome() -> None:
    """A 200 that fails everybody is no success of the batch."""
    verdict = read(BRAZE, {"errors": [{"index": n} for n in range(3)]})
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, "results: nothing accepted")


def test_payloads_without_the_id_are_named() -> None:
    """A callback that no answer could name is refused at acceptance, and found again when its batch is built."""
    results = compiled_results(BY_ID)
    with pytest.raises(Unfit, match=r"item_id order\.id is missing"):
        results.check(TemplateFields(b"{}", None, None, "id"))
    batch = [*items(1), items(2)[1]._replace(payload=b"{}"), items(3)[2]._replace(payload=b"<")]
    with pytest.raises(Unbuildable) as caught:
        results.check_all(batch)
    assert caught.value.reasons == {1: "results.item_id order.id is missing", 2: "not valid JSON"}


def test_the_payloads_own_id_is_not_the_callbacks() -> None:
    """`id: id` means the field, `item_id: "{id}"` the callback's id."""
    results = compiled_results({"shape": "by_id", "at": "f", "id": "id"})
    assert results.item_id(TemplateFields(b'{"id":5}', None, None, "X")) == "5"


def test_a_path_that_does_not_fit_the_answer_cannot_be_read() -> None:
    """A function in ``at`` meets a type it does not take: nothing says that no item failed, so all are unclear."""
    spec = {"shape": "by_index", "at": "values(failed)", "index": "index"}
    assert outcomes(read(spec, {"failed": {"a": {"index": 1}}})) == "ok reject ok"
    found = read(spec, {"failed": 7})
    assert (found.outcome, found.reason) == (Outcome.CONFIRM, "results: cannot be read")
    assert found.ambiguous, "as a whole it was a success: the platform may have applied it, so it goes again as it is"
