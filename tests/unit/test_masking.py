"""How payloads are shown."""

import msgspec
import pytest
from relay.privacy.masking import mask_text, revealed
from relay.privacy.views import Lens


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("13812345678", "138****5678"),
        ("+86 138-1234-5678", "138****5678"),
        ("１３８１２３４５６７８", "138****5678"),
        ("110101199003071234", "110101********1234"),
        ("11010119900307123X", "110101********123X"),
        ("110101900307123", "110101*****7123"),
        ("6222 0212 3456 7890", "622202******7890"),
        ("Zhang San", "Z***"),
        ("张三", "张***"),
        ("call 13812345678 now", "c***"),
        ("x", "***"),
        (" ", "***"),
    ],
)
def test_strings_are_masked_by_their_kind(text: str, shown: str) -> None:
    """Mobiles keep 3+4, long numbers 6+4, anything else its first character; full-width digits are digits."""
    assert mask_text(text) == shown


def test_json_keeps_its_structure_and_keys() -> None:
    """Keys, nesting, booleans and nulls stay; every string and number is masked."""
    payload = b'{"order":{"id":"A-991","phone":13812345678,"sum":19.9,"ok":true,"note":null,"tags":["vip",""],"n":5}}'

    shown = Lens().payload(payload)

    assert shown.payload == {
        "order": {
            "id": "A***",
            "phone": "138****5678",
            "sum": "1***",
            "ok": True,
            "note": None,
            "tags": ["v***", ""],
            "n": "***",
        }
    }
    assert (shown.form, shown.payload_bytes) == ("masked", len(payload))


@pytest.mark.parametrize("payload", [b"phone=13812345678", b"\xff\xfe", b'{"a":"\xff"}', b"", b"[" * 100_000])
def test_what_is_not_json_shows_its_length_only(payload: bytes) -> None:
    """Forms, binary, broken UTF-8 and absurd nesting are not guessed at."""
    shown = Lens().payload(payload)

    assert (shown.form, shown.payload, shown.payload_bytes) == ("hidden", None, len(payload))


def test_a_revealed_payload_is_byte_for_byte() -> None:
    """Spacing, key order and long numbers survive; text and binary have forms of their own."""
    raw = b'{"b": 1.10,  "a": 12345678901234567890123}'

    assert raw in msgspec.json.encode({"payload": revealed(raw).payload})
    assert (revealed(b"a=1&b=2").form, revealed(b"a=1&b=2").payload) == ("text", "a=1&b=2")
    assert (revealed(b"\xff").form, revealed(b"\xff").payload) == ("base64", "/w==")
