"""Keys out of payloads, and which payloads are JSON."""

import pytest
from relay.wire.extract import InvalidJson, KeyPath, check_json, parse_json

PATHS = ["order_id", "order_id || order_id"]  # the fast way and the general one must agree


@pytest.mark.parametrize("expression", PATHS)
@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (b'{"order_id":"A1"}', "A1"),
        (b' {"x":[{}],"order_id" : "A1" } ', "A1"),
        ('{"order_id":"\u8ba2\u5355-1"}'.encode(), "\u8ba2\u5355-1"),
        (b'{"order_id":"\\u8ba2\\n"}', "\u8ba2\n"),
        (b'{"order_id":12345678901}', "12345678901"),
        (b'{"order_id":-7}', "-7"),
        (b'{"order_id":123456789012345678901234567890}', "123456789012345678901234567890"),
        (b'{"order_id":' + b"9" * 5000 + b"}", "9" * 5000),
        (b'{"order_id":1.5}', "1.5"),
        (b'{"order_id":12.0}', "12"),
        (b'{"order_id":true}', "true"),
        (b'{"order_id":{"b":1,"a":[2]}}', '{"a":[2],"b":1}'),
        (b'{"order_id":null}', None),
        (b'{"other":1}', None),
        (b'{"order_id":"A","order_id":"B"}', "B"),
        (b'{"order_id":"A1","x":1e999}', "A1"),
        (b"{}", None),
        (b"[1,2]", None),
        (b'"text"', None),
        (b"12", None),
        (b"null", None),
    ],
)
def test_key_of_payload(expression: str, payload: bytes, key: str | None) -> None:
    """Texts as they are, numbers as their text, null and absent as none."""
    assert KeyPath(expression)(payload) == key


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("data.order.id", "A1"),
        ("items[0].sku", "S"),
        ('"odd name"', "7"),
        ("length(items)", "1"),
        ("length(none)", None),
        ("items[?sku=='X'] | [0]", None),
        ("data.order", '{"id":"A1"}'),
    ],
)
def test_paths(expression: str, key: str | None) -> None:
    """Any JMESPath works; a function that does not fit the payload finds nothing."""
    payload = b'{"data":{"order":{"id":"A1"}},"items":[{"sku":"S"}],"odd name":7,"none":5}'
    assert KeyPath(expression)(payload) == key


@pytest.mark.parametrize("expression", ["", "a[", "a..b"])
def test_bad_expression(expression: str) -> None:
    """An expression that does not compile is named when it is configured."""
    with pytest.raises(ValueError, match="JMESPath"):
        KeyPath(expression)


INVALID = [
    (b"", 0),
    (b"   ", 3),
    (b"{", 1),
    (b'{"a":1', 6),
    (b'{"a":1}x', 7),
    (b'{"a":1,}', 7),
    (b'{"a":01}', 6),
    (b'{"a":NaN}', 5),
    (b'{"a":Infinity}', 5),
    (b'{"a":-Infinity}', 6),
    (b'{"a":"\n"}', 6),
    (b"{'a':1}", 1),
    (b"\xef\xbb\xbf{}", 0),
    (b'{"a":"\xff"}', 6),
    (b'{"\xff":1}', 2),
    (b'{"order_id":"\xc3("}', 13),
    (b'{"a":"\xed\xa0\x80"}', 6),
]


@pytest.mark.parametrize(("payload", "position"), INVALID)
def test_invalid_json_is_found_everywhere(payload: bytes, position: int) -> None:
    """The check and every kind of path refuse the payload at the same byte, also in parts no path looks at."""
    for read in (check_json, KeyPath("order_id"), KeyPath("a.b.c"), parse_json):
        with pytest.raises(InvalidJson) as caught:
            read(payload)
        assert caught.value.position == position
        assert f"byte {position}" in str(caught.value)


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_deep_nesting_is_refused_not_fatal(depth: int) -> None:
    """Nesting that would exhaust the interpreter is invalid, closed or not, wherever it stands."""
    deep = b"[" * depth
    for payload in (deep, deep + b"]" * depth, b'{"order_id":' + deep + b"]" * depth + b"}"):
        for read in (check_json, KeyPath("order_id"), KeyPath("a.b"), parse_json):
            with pytest.raises(InvalidJson):
                read(payload)


def test_nesting_in_reason_is_fine() -> None:
    """A hundred levels are ordinary JSON."""
    check_json(b"[" * 100 + b"]" * 100)
    assert KeyPath("order_id")(b'{"x":' + b"[" * 100 + b"]" * 100 + b',"order_id":1}') == "1"


def test_errors_tell_nothing_of_the_payload() -> None:
    """The message names the place, never the content."""
    for payload in (b'{"card":"4111111111111111"', b'{"card":4111111111111111x}', b'{"card":"4111\xff"}'):
        with pytest.raises(InvalidJson) as caught:
            KeyPath("order_id")(payload)
        assert "4111" not in str(caught.value)
