"""Patterns of the configuration meet texts that a platform chose: whatever these are, a search ends at once."""

from pathlib import Path

import pytest
from relay.ingest.fan_out import Routing, compile_route
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from relay.wire.regex import MAX_TEXT_CHARS, Pattern
from tests.compiled import compiled_rule
from tests.unit.config_files import platform


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(\d+) seconds", "1" * 4_000_000),
        (r"(a+)+$", "a" * 4_000 + "!"),
        (r"(x+x+)+y", "x" * 60_000),
        (r"(.*)(.*)(.*)(.*)(.*)z", "a" * 60_000),
        (r"(a|a)*b", "a" * 60_000),
    ],
)
def test_no_pattern_goes_back_and_forth(pattern: str, text: str) -> None:
    """With an engine that goes back each of these takes from seconds to longer than the sun burns."""
    assert Pattern(pattern).search(text) is None


def test_what_is_found() -> None:
    """The first group, else the whole; of texts that no encoding has, too; beyond the first pages nothing."""
    assert Pattern(r"last for (\d+)").search("will last for 12 more") == "12"
    assert Pattern("频率").search("调用频率超限") == "频率"
    assert Pattern("(a)|b").search("b") is None
    assert Pattern("(a)|b").matches("b")
    assert Pattern("b").matches("\ud800b")
    assert not Pattern("b").matches("a" * MAX_TEXT_CHARS + "b")
    assert Pattern("a") == Pattern("a") != Pattern("b")


def test_a_rule_over_a_long_answer() -> None:
    """A rule and its wait look at an answer of 64 KiB and are done."""
    rule = {
        "path": "msg",
        "regex": r"(\d+) seconds|^1",
        "as": "throttled",
        "wait": {"path": "msg", "regex": r"(\d+)+ s"},
    }
    answer = Answer(200, Headers(), b'{"msg":"' + b"1" * 60_000 + b'"}')
    verdict = classify(answer, rules=[compiled_rule(rule)], compressed=False, items=1, wall=0.0)
    assert (verdict.outcome.value, verdict.wait_s) == ("throttled", None)


@pytest.mark.parametrize("pattern", ["(?!ok)", "(?<=a)b", r"(a)\1", "a{2000}", "(((a{30}){30}){30}){30}"])
def test_what_needs_going_back_is_refused(tmp_path: Path, pattern: str) -> None:
    """Look-around, back-references and huge repetitions are errors of the check, with what to do."""
    (found,) = platform(tmp_path, f"classify: [{{regex: '{pattern}', as: ok}}]")
    assert (found.code, "write several rules" in found.hint) == ("E028", True)


@pytest.mark.parametrize(
    ("glob", "event", "fits"),
    [
        ("order.*", "order.paid", True),
        ("order.*", "order.", True),
        ("order.*", "orders", False),
        ("*.paid", "order.paid", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("ab*ba", "aba", False),
        ("*", "", True),
        ("a.b", "axb", False),
        ("**a**", "xax", True),
        ("*a" * 30 + "b", "a" * 60_000, False),
    ],
)
def test_globs_of_events(glob: str, event: str, fits: bool) -> None:
    """A star is any text; many of them cost no more than one."""
    routing = Routing([compile_route("r", {"event": [glob]}, ["p"])])
    assert (routing.choose(b"{}", event).to == ("p",)) is fits
