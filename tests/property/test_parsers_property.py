"""Whatever comes in, every parser of outside bytes answers or refuses; nothing else is raised, nothing leaks."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from relay.config.load import loads
from relay.config.problems import ConfigInvalid, Problem
from relay.core.model import Item, Outcome
from relay.ingest.post_options import PostOptions, open_envelope, read_post_options
from relay.ingest.posts import ROUTED_DEFAULTS
from relay.ingest.rows import Lines, PlatformIntake, envelope_rows, one_row, plain_rows
from relay.privacy.chain import read_lines, verify
from relay.privacy.masking import HIDDEN, mask_inside
from relay.privacy.views import Lens, PathRule, Shade, View, parse_path
from relay.web.refusal import KINDS, Refusal
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from relay.wire.payload.extract import KeyPath
from tests.compiled import compiled_results
from tests.property.corpus import CORPUS, damaged

SHOP = PlatformIntake(
    name="shop-a",
    needs_json=True,
    expires_s=60.0,
    max_bytes=1 << 20,
    key=KeyPath("order.id"),
    group=KeyPath("shop_id"),
    group_path="shop_id",
)
OPTIONS = read_post_options({}, ROUTED_DEFAULTS)
HEADERS = (
    *("Idempotency-Key", "Relay-Key", "Relay-Event", "Relay-Priority", "Relay-Expires", "Relay-Reference"),
    *("Content-Type", "traceparent", "Relay-Delay"),
)
RESULTS = [
    compiled_results(spec)
    for spec in (
        {"shape": "by_index", "at": "errors", "index": "index"},
        {"shape": "by_index", "at": "update", "failed_if": "error", "covers": "all"},
        {"shape": "by_id", "at": "failed", "id": "ref", "item_id": "order.id"},
    )
]
ITEMS = [
    Item(n, f"id{n}", b'{"order":{"id":"o%d"}}' % n, f"k{n}", None, None, 0, 1, 0, 0, 0, maybe_applied=False)
    for n in range(3)
]


def _refused(parse: Callable[[], object]) -> None:
    """Parse; a refusal must be one that can be answered."""
    refusal: Refusal | None = None
    try:
        parse()
    except Refusal as raised:
        refusal = raised
    assert refusal is None or (refusal.code in KINDS and refusal.answer().status < 500)


def _read_body(body: bytes, options: PostOptions) -> None:
    _refused(lambda: one_row(body, SHOP, options, None))
    for read in (plain_rows, envelope_rows):
        _refused(lambda read=read: [read(turn, SHOP, options, 1 << 20) for turn in Lines([body], 1 << 20).turns()])  # type: ignore[misc]
    _refused(lambda: open_envelope(body, 1, options))


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_read_or_refused(name: str) -> None:
    """Each by every parser of bodies, answers, chains and files."""
    body = CORPUS[name]
    _read_body(body, OPTIONS)
    _read_results(body, 200)
    _shown(body)
    _loaded(body.decode("utf-8", "replace"))
    verify(read_lines(body.decode("utf-8", "replace").split("\n")))


@given(damaged())
def test_bodies(body: bytes) -> None:
    """A post's body, as one callback and as lines."""
    _read_body(body, OPTIONS)


@given(
    st.dictionaries(st.sampled_from(HEADERS), st.text(max_size=60) | damaged().map(lambda raw: raw.decode("latin-1")))
)
@example({"Relay-Expires": "9" * 400 + "d"})
@example({"Relay-Priority": "High"})
@example({"Idempotency-Key": "\udcff"})
def test_headers(headers: Mapping[str, str]) -> None:
    """What a client may put into the headers of a post."""
    _refused(lambda: read_post_options(headers, ROUTED_DEFAULTS))


def _read_results(body: bytes, status: int) -> None:
    answer = Answer(status, Headers(), body, complete=True)
    whole = classify(answer, rules=(), compressed=False, items=len(ITEMS), wall=0.0)
    for results in RESULTS:
        verdict = results.read(answer, whole, ITEMS, wall=0.0)
        assert len(verdict.items) in (0, len(ITEMS))
        assert all(isinstance(item.outcome, Outcome) for item in verdict.items)


@given(damaged(), st.sampled_from([200, 207, 400]))
def test_results_per_item(body: bytes, status: int) -> None:
    """An answer that names items: a verdict for each or for all, whatever it says."""
    _read_results(body, status)


def _loaded(text: str) -> None:
    problems: list[Problem] | None = None
    try:
        loads(text, path="config.yaml", environ={})
    except ConfigInvalid as invalid:
        problems = list(invalid.problems)
    assert problems is None or (problems and all(each.line >= 1 and each.code for each in problems))


@given(damaged())
def test_files(raw: bytes) -> None:
    """Anything as a configuration: taken, or refused with places."""
    _loaded(raw.decode("utf-8", "replace"))


def _shown(payload: bytes) -> None:
    for view in (None, View((PathRule(("a",), Shade.SHOW),), Shade.HIDE), View((), Shade.SHOW)):
        shown = Lens((), view).payload(payload)
        assert shown.form in ("masked", "hidden")
        msgspec.json.encode(shown.payload)


@given(damaged())
def test_payloads_are_shown(payload: bytes) -> None:
    """Through every view, or only by their length."""
    _shown(payload)


@given(st.text(max_size=40))
def test_paths(text: str) -> None:
    """Into payloads: parsed or refused."""
    try:
        path = parse_path(text)
    except ValueError:
        return
    assert path
    assert all(path)


_WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=6, max_size=20
)
_LEAF = _WORD | st.integers(10**6, 10**15) | st.booleans() | st.none()
_PAYLOADS = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [leaf for inner in (value.values() if isinstance(value, dict) else value) for leaf in _leaves(inner)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


@given(_PAYLOADS, st.text(max_size=20), st.text(max_size=20), st.booleans())
def test_words_hold_no_value_of_the_payload(payload: Any, before: str, after: str, escaped: bool) -> None:
    """Of a platform's answer that repeats them all, as they are or escaped as JSON does."""
    values = _leaves(payload)
    words = Lens().words(json.dumps(payload).encode())
    told = f"{before} {json.dumps(values) if escaped else ' '.join(values)} {after}"
    shown = words(told)
    for value in values:
        for form in (value, json.dumps(value)[1:-1]):
            if HIDDEN not in form and form not in f"{before} {after}":
                assert form not in shown, (form, shown)


@given(st.text())
def test_masking_a_text_twice_changes_nothing(text: str) -> None:
    """What is masked stays as it is, and no digits of a phone number are left in a row."""
    once = mask_inside(text)
    assert mask_inside(once) == once
