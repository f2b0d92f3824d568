"""Bodies of a platform's own form: objects, forms, CloudEvents, and what fits into them."""

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from relay.core.errors import Unbuildable, Unfit
from relay.core.model import Item
from relay.wire.payload.extract import InvalidJson
from relay.wire.payload.fields import Fields, ItemMapping
from tests.compiled import compiled_envelope

PAYLOADS = ('{"id": 1.10, "who":{"name":"李 & co"}, "n":9007199254740993}'.encode(), b'{"id":"b","who":{"name":""}}')


def item(payload: bytes, seq: int = 1, *, key: str | None = None, event: str | None = None) -> Item:
    """A claimed item, accepted at a round time."""
    return Item(seq, "0" * 15, payload, key, event, None, 1.7e9, 2e9, 0, 0, 0.0, maybe_applied=False)


def built(spec: dict[str, Any] | str, *items: Item) -> tuple[bytes, str]:
    """The body of items and its content type, after checking that its length is what a claim counted."""
    envelope = compiled_envelope(spec)
    body, content_type = envelope.build(items)
    counted = sum(envelope.size(one.payload, one.key, one.event) + envelope.item_bytes for one in items)
    assert len(body) == envelope.frame_bytes + counted
    return body, content_type


def test_object_splices_the_list_into_its_place() -> None:
    """Static fields stand around the list, payloads in it byte for byte."""
    spec = {"kind": "object", "items_at": "data.orders", "static": {"v": 1, "data": {"app": "x"}}}
    body, content_type = built(spec, *map(item, PAYLOADS))
    assert body == b'{"v":1,"data":{"app":"x","orders":[%b,%b]}}' % PAYLOADS
    assert content_type == "application/json"


def test_object_builds_each_item_from_fields() -> None:
    """A chain of names keeps the payload's own bytes; constants, nesting and lists stand as configured."""
    mapping = {"no": "id", "to": {"name": "who.name"}, "kind": "'ship'", "mode": 1, "lines": [{"n": "n || id"}]}
    body, _ = built({"kind": "object", "items_at": "o", "item": mapping}, item(PAYLOADS[0]))
    assert (
        body
        == (
            '{"o":[{"no":1.10,"to":{"name":"李 & co"},"kind":"ship","mode":1,"lines":[{"n":9007199254740993}]}]}'
        ).encode()
    )


def test_object_of_one_callback() -> None:
    """Without `items_at` the mapped fields stand beside the static ones, one callback in a request."""
    spec = {"kind": "object", "static": {"app": "x"}, "item": {"order": "@"}}
    assert compiled_envelope(spec).max_items == 1
    assert built(spec, item(PAYLOADS[1]))[0] == b'{"app":"x","order":%b}' % PAYLOADS[1]
    with pytest.raises(ValueError, match="exactly one"):
        compiled_envelope(spec).build([item(payload) for payload in PAYLOADS])


def test_form_with_the_list_in_a_field() -> None:
    """The items are a JSON list in one field, percent-encoded; static fields come before it."""
    body, content_type = built(
        {"kind": "form", "items_at": "list", "static": {"m": "a b", "n": 2}}, *map(item, PAYLOADS)
    )
    assert dict(parse_qsl(body.decode())) == {"m": "a b", "n": "2", "list": (b"[%b,%b]" % PAYLOADS).decode()}
    assert content_type == "application/x-www-form-urlencoded"


def test_form_of_one_callback() -> None:
    """Each entry of `item` is a field: texts as they are, everything else as JSON."""
    spec = {
        "kind": "form",
        "static": {"method": "send"},
        "item": {"param": "@", "no": "id", "who": "who.name", "x": {"n": "n"}},
    }
    body, _ = built(spec, item(PAYLOADS[0]))
    assert dict(parse_qsl(body.decode())) == {
        "method": "send",
        "param": PAYLOADS[0].decode(),
        "no": "1.10",
        "who": "李 & co",
        "x": '{"n":9007199254740993}',
    }


def test_form_with_mapped_items() -> None:
    """With both, each item of the list is built anew."""
    body, _ = built({"kind": "form", "items_at": "list", "item": {"no": "id"}}, *map(item, PAYLOADS))
    assert dict(parse_qsl(body.decode())) == {"list": '[{"no":1.10},{"no":"b"}]'}


def test_cloudevents_batched() -> None:
    """Each event has the attributes CloudEvents 1.0 requires, the callback's own, and the payload as data."""
    batch = [item(PAYLOADS[0], key='o"1', event="order.paid"), item(PAYLOADS[1])]
    body, content_type = built({"kind": "cloudevents", "source": "/shop", "type": "order"}, *batch)
    assert content_type == "application/cloudevents-batch+json"
    first, second = json.loads(body)
    assert first == {
        "specversion": "1.0",
        "id": "0" * 15,
        "source": "/shop",
        "type": "order.paid",
        "time": "2023-11-14T22:13:20.000Z",
        "subject": 'o"1',
        "datacontenttype": "application/json",
        "data": json.loads(PAYLOADS[0]),
    }
    assert second["type"] == "order"
    assert "subject" not in second
    assert PAYLOADS[0] in body


def test_cloudevents_structured() -> None:
    """One event is the whole body."""
    body, content_type = built({"kind": "cloudevents", "mode": "structured"}, item(PAYLOADS[1]))
    assert content_type == "application/cloudevents+json"
    assert json.loads(body)["data"] == json.loads(PAYLOADS[1])


SPECS: list[dict[str, Any]] = [
    {"kind": "object", "items_at": "o"},
    {"kind": "object", "items_at": "o", "item": {"no": "id"}},
    {"kind": "form", "items_at": "o"},
    {"kind": "form", "items_at": "o", "item": {"no": "id"}},
    {"kind": "cloudevents"},
]


@pytest.mark.parametrize("spec", SPECS)
def test_what_cannot_be_in_the_body_is_named(spec: dict[str, Any]) -> None:
    """Items whose payload is no JSON, or lacks a field of the mapping, are named and keep nobody else's name."""
    batch = [item(PAYLOADS[0], 1), item(b"{,", 2), item(b'{"id":null}', 3)]
    with pytest.raises(Unbuildable) as caught:
        compiled_envelope(spec).build(batch)
    reasons = dict(caught.value.reasons)
    assert reasons.pop(2) == "not valid JSON"
    assert reasons == ({3: "id is missing"} if "item" in spec else {})


@pytest.mark.parametrize(
    "payload", [b"[]", b"3", b'{"who":3}', b'{"who":{}}', b'{"who":{"name":null}}', b'{"who":[{"name":1}]}']
)
@pytest.mark.parametrize("path", ["who.name", "who.name || name"])
def test_missing_fields_are_refused_at_acceptance(payload: bytes, path: str) -> None:
    """Absent, null and of another shape are all missing, by the fast way and the general one."""
    with pytest.raises(Unfit, match="is missing"):
        ItemMapping({"n": path})(payload)
    with pytest.raises(InvalidJson):
        ItemMapping({"n": path})(payload + b"}")


def test_values_that_json_cannot_hold_are_refused() -> None:
    """A number out of range is JSON, and only its own bytes can repeat it."""
    assert Fields(["a"])(b'{"a":1e999}') == [b"1e999"]
    with pytest.raises(Unfit, match="cannot be written"):
        Fields(["a || b"])(b'{"a":1e999}')


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "object"}, "needs items_at"),
        ({"kind": "form"}, "needs items_at"),
        ({"kind": "object", "item": {"a": "b"}, "static": {"a": 1}}, "both in static and in item"),
        ({"kind": "object", "items_at": "a.b", "static": {"a": 1}}, "leads into a"),
        ({"kind": "object", "items_at": "a", "static": {"a": 1}}, "no free place"),
        ({"kind": "object", "items_at": "a..b"}, "no free place"),
        ({"kind": "form", "items_at": "a", "static": {"a": 1}}, "sent twice"),
        ({"kind": "form", "item": {"a": "b"}, "static": {"a": 1}}, "sent twice"),
        ({"kind": "object", "items_at": "a", "item": {"a": "b["}}, "is not a JMESPath expression"),
        ({"kind": "array", "items_at": "a"}, "does not know items_at"),
        ({"kind": "cloudevents", "item": {}}, "does not know item"),
    ],
)
def test_contradictions_are_refused(spec: dict[str, Any], message: str) -> None:
    """Settings that no body can be built of say what is wrong."""
    with pytest.raises(ValueError, match=message):
        compiled_envelope(spec)
