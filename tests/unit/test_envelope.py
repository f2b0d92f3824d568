"""Request bodies built from payloads."""

import json

import pytest
from relay.core.errors import Unbuildable
from relay.core.model import Item
from tests.compiled import compiled_envelope


def item(payload: bytes, content_type: str | None = None) -> Item:
    """Return a claimed item with ``payload``."""
    return Item(1, "id", payload, None, None, content_type, 0.0, 1.0, 0, 0, 0.0, maybe_applied=False)


def items(*payloads: bytes) -> list[Item]:
    """Return one item per payload."""
    return [item(payload) for payload in payloads]


def test_array_splices_the_bytes() -> None:
    """Payloads stand in the array byte for byte, odd spacing and escapes included."""
    body, content_type = compiled_envelope("array").build(items(b'{ "a" : 1.0 }', '"\u8ba2\\u5355"'.encode(), b"[\n]"))
    assert body == '[{ "a" : 1.0 },"\u8ba2\\u5355",[\n]]'.encode()
    assert content_type == "application/json"


def test_ndjson_keeps_one_payload_per_line() -> None:
    """A raw CR or LF inside a payload becomes a space; everything else stays."""
    body, content_type = compiled_envelope("ndjson").build(items(b'{\r\n"a":1}', b'{"b":"\\n"}', b"[1,\n2]"))
    assert body == b'{  "a":1}\n{"b":"\\n"}\n[1, 2]\n'
    assert content_type == "application/x-ndjson"
    assert [json.loads(line) for line in body.splitlines()] == [{"a": 1}, {"b": "\n"}, [1, 2]]


def test_ndjson_replaces_a_lone_carriage_return() -> None:
    """Some readers end a line at CR alone."""
    assert compiled_envelope("ndjson").build(items(b"[1,\r2]"))[0] == b"[1, 2]\n"


def test_single_is_the_payload_itself() -> None:
    """The body and its content type are the callback's own."""
    single = compiled_envelope("single")
    assert single.build([item(b"\x00\xff", "application/octet-stream")]) == (b"\x00\xff", "application/octet-stream")
    assert single.build(items(b"{}")) == (b"{}", "application/json")
    assert (single.max_items, single.needs_json) == (1, False)


@pytest.mark.parametrize("count", [0, 2])
def test_single_holds_exactly_one(count: int) -> None:
    """Any other number is a mistake of the caller."""
    with pytest.raises(ValueError, match="exactly one"):
        compiled_envelope("single").build(items(*[b"{}"] * count))


@pytest.mark.parametrize("kind", ["array", "ndjson"])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_accounting_is_exact(kind: str, count: int) -> None:
    """Frame and item bytes give the body's length, so a claim fills ``max_bytes`` to the last byte."""
    envelope = compiled_envelope(kind)
    body, _ = envelope.build(items(*[b'{"a":1}'] * count))
    assert len(body) == envelope.frame_bytes + count * (len(b'{"a":1}') + envelope.item_bytes)
    assert envelope.needs_json
    assert envelope.max_items is None


def test_unknown_kind_names_the_known() -> None:
    """The error says what there is."""
    with pytest.raises(ValueError, match="'array', 'ndjson', 'single', 'object', 'form' or 'cloudevents'"):
        compiled_envelope("xml")


@pytest.mark.parametrize("kind", ["array", "ndjson"])
def test_payloads_that_would_break_the_body_are_named(kind: str) -> None:
    """What another envelope took before a reload is not spliced into JSON; each such item is named."""
    batch = [item(b"{}")._replace(seq=1), item(b"1,2")._replace(seq=2), item(b"\xff")._replace(seq=3)]
    with pytest.raises(Unbuildable) as caught:
        compiled_envelope(kind).build(batch)
    assert caught.value.reasons == {2: "not valid JSON", 3: "not valid JSON"}
