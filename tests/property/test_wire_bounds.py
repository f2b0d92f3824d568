"""Bounds of the wire layer that hold for any input."""

import json
import math
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay.core.errors import Unfit
from relay.core.model import Item
from relay.policy.backoff import backoff_s
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from relay.wire.compress import BadEncoding, TooLarge, compress, decompress, decompress_start
from relay.wire.payload.extract import InvalidJson, KeyPath, check_json
from tests.compiled import compiled_envelope, compiled_rule

# floats are left out of keys: 1e16 and 10000000000000000 are one number to one parser and two to another
SCALARS = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HEADER_NAMES = st.sampled_from(
    ["Retry-After", "RateLimit", "RateLimit-Policy", "X-RateLimit-Reset", "Date", "Content-Type", "X-Wait"]
)
HEADER_VALUES = st.text(max_size=60) | st.integers().map(str) | st.floats().map(str) | st.datetimes().map(str)
RULES = [
    compiled_rule(rule)
    for rule in (
        {"path": "code", "in": [0, "ok", None], "as": "ok"},
        {"path": "code", "regex": "^[0-9]", "as": "throttled", "wait": {"path": "wait", "cap": "1m"}},
        {"header": "X-Wait", "exists": True, "as": "throttled", "wait": {"header": "X-Wait", "cap": "1m"}},
        {"regex": "busy", "as": "retry", "wait": {"path": "wait", "regex": "[0-9.]+", "unit": "epoch_ms"}},
        {"status": "4xx", "path": "length(code)", "in": [1], "as": "split"},
    )
]


def refusal(payload: bytes) -> InvalidJson | None:
    """Return what the check says against ``payload``."""
    try:
        check_json(payload)
    except InvalidJson as error:
        return error
    return None


@settings(max_examples=200)
@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_whatever_json_writes_is_valid(value: object, ascii_only: bool, indent: int | str | None) -> None:
    """Every document of the standard encoder passes the check."""
    check_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace"))


@settings(max_examples=300)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:0123456789.eE+-\\u ntrfalse', max_size=30).map(str.encode))
def test_check_agrees_with_the_standard_parser(payload: bytes) -> None:
    """Nothing that the standard parser refuses passes, and both ways to a key agree with the check."""
    error = refusal(payload)
    if error is not None:
        assert 0 <= error.position <= len(payload)
        for path in ("a", "a.b"):
            with pytest.raises(InvalidJson):
                KeyPath(path)(payload)
        return
    json.loads(payload.decode("utf-8"), parse_constant=pytest.fail)
    assert KeyPath("a")(payload) == KeyPath("a || a")(payload)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=5) | st.just("k"), VALUES, max_size=4), SCALARS)
def test_fast_and_general_paths_agree(document: dict[str, object], key: object) -> None:
    """A plain name read in one pass gives what the full parse and search give."""
    payload = json.dumps({**document, "k": key}).encode()
    try:
        fast = KeyPath("k")(payload)
    except InvalidJson:  # half a surrogate pair: refused by both
        with pytest.raises(InvalidJson):
            KeyPath("k || k")(payload)
        return
    general = KeyPath("k || k")(payload)
    assert general == fast or key is False or key == ""  # false and "" are false to ||, so the right side is read


@settings(max_examples=300)
@given(
    st.integers(0, 999),
    st.binary(max_size=60) | VALUES.map(lambda value: json.dumps({"code": value, "wait": value}).encode()),
    st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4),
    st.booleans(),
    st.integers(1, 3),
)
def test_no_answer_is_raised_and_every_wait_is_bounded(
    status: int, body: bytes, headers: list[tuple[str, str]], complete: bool, items: int
) -> None:
    """Any status, body and headers give a verdict; its wait lies in 0..cap and its excerpt is printable and short."""
    answer = Answer(status, Headers(headers), body, complete)
    for rules in ((), RULES):
        verdict = classify(answer, rules=rules, compressed=True, items=items, wall=1.8e9, cap_s=60.0)
        assert verdict.wait_s is None or (math.isfinite(verdict.wait_s) and 0.0 <= verdict.wait_s <= 60.0)
        assert len(verdict.excerpt) <= 500
        assert verdict.excerpt.isprintable()
        assert verdict.reason


@settings(max_examples=200)
@given(st.integers(1, 10_000), st.floats(0.001, 3600), st.floats(0.001, 86400), st.integers())
def test_backoff_bounds(n: int, base_s: float, cap_s: float, seed: int) -> None:
    """The wait lies in [d/2, d] of the schedule for every n."""
    d = min(cap_s, base_s * 2.0 ** min(n - 1, 900))
    assert d / 2 <= backoff_s(n, base_s=base_s, cap_s=cap_s, rng=random.Random(seed)) <= d


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=3000), max_size=5), st.sampled_from(["gzip", "zstd"]), st.integers(0, 6000))
def test_decompress_gives_all_or_refuses(parts: list[bytes], codec: str, limit: int) -> None:
    """Joined members come back whole up to the limit and are refused above it; a start is always a start."""
    body = b"".join(parts)
    coded = b"".join(compress(part + b"\0" * 2000, codec)[0] for part in parts)
    whole = b"".join(part + b"\0" * 2000 for part in parts)
    if len(whole) <= limit:
        assert decompress(coded, codec, limit) == whole
    else:
        with pytest.raises(TooLarge):
            decompress(coded, codec, limit)
    assert decompress_start(coded, codec, limit) == (whole[:limit], len(whole) <= limit)
    with suppress(BadEncoding, TooLarge):
        decompress(body, codec, limit)
    decompress_start(body, codec, limit)


@settings(max_examples=100)
@given(st.lists(VALUES, min_size=1, max_size=6), st.sampled_from(["array", "ndjson"]), st.booleans())
def test_envelopes_hold_what_was_accepted(values: list[object], kind: str, pretty: bool) -> None:
    """The body parses back into the payloads and has exactly the length that claims count on."""
    payloads = [json.dumps(value, indent=2 if pretty else None).replace("\n", "\r\n").encode() for value in values]
    items = [Item(1, "i", payload, None, None, None, 0, 0, 0, 0, 0, maybe_applied=False) for payload in payloads]
    envelope = compiled_envelope(kind)
    body, _ = envelope.build(items)
    assert len(body) == envelope.frame_bytes + sum(len(payload) + envelope.item_bytes for payload in payloads)
    if kind == "array":
        assert json.loads(body) == values
        assert body == b"[" + b",".join(payloads) + b"]"
    else:
        assert [json.loads(line) for line in body.split(b"\n")[:-1]] == values


PATHS = st.sampled_from(["a", "b.c", "@", "b", "a || b", "[a, b]", "'text'", "to_string(@)"])
MAPPINGS = st.dictionaries(st.text(min_size=1, max_size=4), PATHS, min_size=1, max_size=3)
STATIC = st.dictionaries(st.text(max_size=3).map(lambda name: "s" + name), VALUES, max_size=3).filter(
    lambda static: "\\u0000" not in json.dumps(static)  # no text with a NUL can be static
)


@st.composite
def composed(draw: st.DrawFn) -> dict[str, object]:
    """An envelope given as a mapping."""
    kind = draw(st.sampled_from(["object", "form", "cloudevents"]))
    if kind == "cloudevents":
        text = st.text(min_size=1, max_size=5)
        return {
            "kind": kind,
            "source": draw(text),
            "type": draw(text),
            "mode": draw(st.sampled_from(["batched", "structured"])),
        }
    spec: dict[str, object] = {"kind": kind, "static": draw(STATIC)}
    alone = draw(st.booleans())
    if not alone:
        spec["items_at"] = draw(st.sampled_from(["list", "x.y.z"] if kind == "object" else ["list"]))
    if alone or draw(st.booleans()):
        spec["item"] = {"m" + name: path for name, path in draw(MAPPINGS).items()}
    return spec


@settings(max_examples=300)
@given(
    composed(),
    st.lists(st.fixed_dictionaries({"a": VALUES}, optional={"b": VALUES}), min_size=1, max_size=4),
    st.none() | st.text(min_size=1, max_size=6),
)
def test_composed_bodies_are_as_long_as_claims_count_on(
    spec: dict[str, object], documents: list[dict[str, object]], key: str | None
) -> None:
    """Whatever an envelope takes at acceptance it can build, and the body has exactly the length counted then."""
    try:
        envelope = compiled_envelope(spec)
        counted = 0
        items = []
        for document in documents[: envelope.max_items or 4]:
            raw = json.dumps(document, ensure_ascii=False).encode()
            with suppress(Unfit):
                counted += envelope.size(raw, key, None) + envelope.item_bytes
                items.append(Item(1, "0" * 15, raw, key, None, None, 1.7e9, 0, 0, 0, 0, maybe_applied=False))
    except (UnicodeEncodeError, InvalidJson):  # half a surrogate pair, which neither YAML nor HTTP can bring
        return
    if items:
        body, _ = envelope.build(items)
        assert len(body) == envelope.frame_bytes + counted
