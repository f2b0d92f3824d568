"""Request bodies taken apart as a platform reads them."""

import pytest
from relay.standin.bodies import MalformedBody, field_reader, split_items

HALF = rb'{"nick":"abc \ud83d"}'
OTHER = rb'{"nick":"abc \ude00"}'


def test_items_are_taken_out_as_they_stand() -> None:
    """Byte for byte, in their order, with halves of characters in them."""
    body = b"[ %b , %b,%b ]" % (HALF, OTHER, HALF)
    assert split_items(body, content_type="application/json") == [HALF, OTHER, HALF]
    assert split_items(b'{"x":{"list":%b}}' % body, content_type="", shape="array", items_at="x.list") == [
        HALF,
        OTHER,
        HALF,
    ]
    assert field_reader("nick")(HALF) == "abc \ufffd"


def test_what_is_no_array_is_malformed() -> None:
    """So is one that ends in the middle of a half."""
    for body in (rb'["\ud83d', b"[1,", b"{}"):
        with pytest.raises(MalformedBody):
            split_items(body, content_type="", shape="array")
