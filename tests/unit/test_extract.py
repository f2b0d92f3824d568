"""Keys out of payloads, and which payloads are JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay.wire.payload.extract import InvalidJson, KeyPath, as_written, check_json, parse_json, readable
from relay.wire.payload.fields import ItemMapping, as_text

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


HALVES = [
    (rb'{"a":"abc \ud83d"}', "abc \ufffd"),
    (rb'{"a":"\uD83D x"}', "\ufffd x"),
    (rb'{"a":"\ude00"}', "\ufffd"),
    (rb'{"a":"\ud83d\ud83d\ude00"}', "\ufffd\U0001f600"),
    (rb'{"a":"\ud83d\u0041"}', "\ufffdA"),
    (rb'{"a":"\ude00\ud83d"}', "\ufffd\ufffd"),
    (rb'{"a":"\\\ud83d"}', "\\\ufffd"),
    (rb'{"\ud83d":1,"a":"\\ud83d"}', "\\ud83d"),
    (rb'{"a":123456789012345678901234567890,"b":"\udfff"}', "123456789012345678901234567890"),
]


@pytest.mark.parametrize(("payload", "key"), HALVES)
def test_half_a_character_is_json(payload: bytes, key: str) -> None:
    """An escape of half a surrogate pair is in JSON's grammar: the payload passes, its key reads U+FFFD there."""
    check_json(payload)
    assert KeyPath("a")(payload) == KeyPath("a || a")(payload) == key
    key.encode()  # no half is left in what is read


@pytest.mark.parametrize("payload", [rb'["\ud83d', rb'["\ud83', rb'{"a":"\ud8zz"}', rb'["\ud83d",]', rb"\ud83d"])
def test_half_a_character_hides_no_fault(payload: bytes) -> None:
    """What is wrong beside it is told as ever."""
    for read in (check_json, KeyPath("a"), parse_json):
        with pytest.raises(InvalidJson) as caught:
            read(payload)
        assert "surrogate" not in str(caught.value)


def test_errors_say_what_it_is() -> None:
    """A byte order mark is called one; what ends early is said to."""
    with pytest.raises(InvalidJson, match="byte order mark"):
        check_json(b'\xef\xbb\xbf{"a":1}')
    with pytest.raises(InvalidJson, match="it ends too early"):
        check_json(b'{"a":1')


@given(st.lists(st.sampled_from([rb"\ud83d", rb"\ude00", rb"\\", rb"\u0041", b"x", rb"\ufffd", rb"\n"]), max_size=12))
def test_whatever_python_reads_passes(parts: list[bytes]) -> None:
    """Whatever halves and pairs stand in a text: it is JSON, and its readable twin has the same length."""
    payload = b'{"a":"%b"}' % b"".join(parts)
    check_json(payload)
    parse_json(payload)
    assert len(readable(payload)) == len(payload)


def test_fields_of_a_payload_are_sent_as_they_were_written() -> None:
    """A body composed of fields holds the half character of the payload, and its text where text is wanted."""
    payload = rb'{"order":{"nick":"abc \ud83d"},"n":"\ufffd"}'
    mapping = ItemMapping({"who": "order.nick", "all": "@", "n": "n"})
    assert mapping(payload) == b'{"who":"abc \\ud83d","all":%b,"n":"\\ufffd"}' % payload
    assert as_text(rb'"abc \ud83d"') == "abc \ufffd"


def test_a_part_is_sent_as_it_was_written() -> None:
    """What is read from the readable twin stands for the payload's own bytes; told apart or refused."""
    payload = rb'{"x":"\ufffd","a":"\ud83d!"}'
    twin = readable(payload)
    assert as_written(rb'"\ufffd!"', twin, payload) == rb'"\ud83d!"'
    assert as_written(b"elsewhere", twin, payload) == b"elsewhere"
    with pytest.raises(InvalidJson, match="told apart"):
        as_written(rb"\ufffd", twin, payload)
