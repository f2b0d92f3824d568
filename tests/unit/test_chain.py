"""The chain of audit records: any change to what was exported is found, and the first record concerned is named."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from relay.privacy.chain import ORIGIN, Link, following, read_lines, record_text, start_record, verify


def _chain(*records: Any, after: int = 0, before: str = ORIGIN) -> list[Link]:
    links = []
    for n, record in enumerate(records, start=after + 1):
        text = record_text(record)
        before = following(before, text)
        links.append(Link(n, before, text))
    return links


def _did(count: int) -> list[Link]:
    return _chain(*({"who": "李", "action": "platform.pause", "details": {"n": n}} for n in range(count)))


def _found(lines: Sequence[str], head: str | None = None) -> tuple[int, str] | None:
    fault = verify(read_lines(lines), head=head).fault
    return None if fault is None else (fault.n, fault.what.split(":")[0])


def test_hashes_are_as_the_contract_says() -> None:
    """Hash n is the SHA-256 of hash n-1 and the record as JSON with sorted keys, no spaces, in UTF-8."""
    first, second = _chain({"b": 1, "a": "北"}, {"c": 1e22})
    assert first.text == '{"a":"北","b":1}'
    assert first.hash == hashlib.sha256(("0" * 64 + '{"a":"北","b":1}').encode()).hexdigest()
    assert second.hash == hashlib.sha256((first.hash + '{"c":1e+22}').encode()).hexdigest()
    assert json.loads(first.line()) == {"n": 1, "hash": first.hash, "record": {"a": "北", "b": 1}}


def test_a_whole_chain_holds() -> None:
    """Nothing is found in a chain as it was exported, with its head or an older one."""
    links = _did(5)
    lines = [link.line() for link in links]
    for head in (None, links[-1].hash, links[2].hash, links[2].hash.upper()):
        verdict = verify(read_lines(lines), head=head)
        assert (verdict.first, verdict.last, verdict.hash, verdict.fault) == (1, 5, links[-1].hash, None)
    assert verify([]).fault is None


@pytest.mark.parametrize("n", range(1, 6))
def test_the_first_record_concerned_is_named(n: int) -> None:
    """Each way to tamper with each record is found."""
    lines = [link.line() for link in _did(5)]
    at = n - 1
    assert _found([*lines[:at], lines[at].replace("pause", "flush"), *lines[n:]]) == (n, "was changed")
    assert _found([*lines[:at], '{"n":', *lines[n:]]) == (n, "was changed")
    assert _found([*lines[:n], lines[at], *lines[n:]]) == (n + 1, "is none")
    if n < 5:
        dropped = "is missing, and all before record 2; no record states that the chain starts there"
        assert _found([*lines[:at], *lines[n:]]) == ((1, dropped) if n == 1 else (n, "was dropped"))
        assert _found([*lines[:at], lines[n], lines[at], *lines[n + 1 :]]) == (n, "was moved")


def test_a_cut_end_is_found_with_the_head() -> None:
    """A chain that was cut looks whole; the head that was kept elsewhere tells."""
    links = _did(5)
    lines = [link.line() for link in links[:3]]
    assert _found(lines) is None
    assert _found(lines, head=links[-1].hash) == (4, "is missing")
    assert _found([], head=links[-1].hash) == (1, "is missing, and all that followed it")


def test_a_beginning_may_be_missing_where_a_record_states_it() -> None:
    """After pruning the chain begins later; the record of that names the first record left and the hash before it."""
    links = _did(5)
    start = _chain(start_record(4, links[2].hash, at="2026-11-29T00:00:00.000Z"), after=5, before=links[-1].hash)
    left = [link.line() for link in (*links[3:], *start)]
    verdict = verify(read_lines(left))
    assert (verdict.first, verdict.last, verdict.fault) == (4, 6, None)
    assert _found(left[1:]) == (1, "is missing, and all before record 5; no record states that the chain starts there")
    assert _found([left[0].replace("pause", "flush"), *left[1:]]) == (4, "was changed")


def test_what_utf8_has_no_form_for_is_replaced() -> None:
    """A lone surrogate, as a path may hold, breaks no record."""
    (link,) = _chain({"target": "/v1/\udcff"})
    assert link.text == '{"target":"/v1/?"}'
