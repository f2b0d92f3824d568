"""What of a payload, and of the words about it, each viewer sees."""

from typing import Any

import msgspec
import pytest
from relay.privacy.masking import KeepEnds, mask_as, mask_inside
from relay.privacy.views import Lens, Lenses, PathRule, Shade, View, parse_path

ORDER = {
    "order_id": "A-991",
    "receiver": {"name": "张三丰", "phone": "13812345678", "address": "浙江省杭州市西湖区文三路90号"},
    "items": [{"sku": "茶", "gift": True, "note": None}],
    "amount": 19.9,
    "size": ["XL", 12],
}
PAYLOAD = msgspec.json.encode(ORDER)


def _view(default: str = "hide", **lists: Any) -> View:
    return View(
        tuple(PathRule(parse_path(path), Shade(name)) for name, paths in lists.items() for path in paths),
        Shade(default),
    )


def _seen(view: View | None, masks: Any = ()) -> Any:
    return Lens([(parse_path(path), how) for path, how in masks], view).payload(PAYLOAD).payload


def test_a_view_shows_what_it_names_and_keeps_the_shape() -> None:
    """Shown as it came, masked by kind, the rest hidden; no key and no place of a list is left out."""
    warehouse = _view(show=["order_id", "items", "receiver.address"], mask=["receiver.phone"])
    assert _seen(warehouse, [("receiver.name", "name")]) == {
        "order_id": "A-991",
        "receiver": {"name": "***", "phone": "138****5678", "address": "浙江省杭州市西湖区文三路90号"},
        "items": [{"sku": "茶", "gift": True, "note": None}],
        "amount": "***",
        "size": ["***", "***"],
    }


def test_hidden_values_tell_nothing() -> None:
    """Not even whether it is true, null or a number."""
    assert _seen(_view(hide=["items"], default="show"))["items"] == [{"sku": "***", "gift": "***", "note": "***"}]


def test_the_first_list_that_fits_decides() -> None:
    """In the order they stand in; a path stands for all below it."""
    assert _seen(_view(mask=["receiver.phone"], show=["receiver"]))["receiver"]["phone"] == "138****5678"
    assert _seen(_view(show=["receiver"], mask=["receiver.phone"]))["receiver"]["phone"] == "13812345678"


def test_no_view_shows_what_is_hidden_for_everybody() -> None:
    """``privacy.mask`` with ``hide`` holds over every view; other kinds hold where a value is masked."""
    masks = [("receiver.name", "hide"), ("receiver.address", "address"), ("items.sku", KeepEnds(0, 0))]
    receiver = _seen(_view(show=["receiver"]), masks)["receiver"]
    assert (receiver["name"], receiver["address"]) == ("***", ORDER["receiver"]["address"])  # type: ignore[index]
    plain = _seen(None, masks)
    assert plain["receiver"] == {"name": "***", "phone": "138****5678", "address": "浙江省杭州市***"}
    assert (plain["order_id"], plain["items"][0]["gift"], plain["amount"]) == ("A***", True, "1***")


def test_a_star_in_a_path_is_any_key() -> None:
    """In ``privacy.mask`` and in a view, and only for the one key it stands for."""
    assert _seen(None, [("*.phone", "hide")])["receiver"]["phone"] == "***"
    assert _seen(_view(show=["*.phone"]))["receiver"] == {"name": "***", "phone": "13812345678", "address": "***"}
    assert _seen(_view(hide=["*.*.phone"], default="show"))["receiver"]["phone"] == "13812345678"


@pytest.mark.parametrize(
    ("text", "how", "shown"),
    [
        ("13812345678", "phone", "138****5678"),
        ("0571-88888888", "phone", "057*****8888"),
        ("110101199003071234", "id_card", "110101********1234"),
        ("6222021234567890", "bank_card", "622202******7890"),
        ("zhang@example.com", "email", "z***@example.com"),
        ("张三丰", "name", "张**"),
        ("X", "name", "***"),
        ("杭州", "address", "***"),
        ("anything", "hide", "***"),
        ("40012340888", KeepEnds(3, 4), "400****0888"),
        ("abc", KeepEnds(2, 2), "***"),
    ],
)
def test_kinds_of_values(text: str, how: Any, shown: str) -> None:
    """Each keeps what tells one from another, and never the whole."""
    assert mask_as(text, how) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no user 13812345678 here", "no user 138****5678 here"),
        ("phone:+86 138-1234-5678.", "phone:138****5678."),
        ("１３８１２３４５６７８", "138****5678"),
        ("id 11010119900307123X!", "id 110101********123X!"),
        ("card 6222 0212 3456 7890", "card 622202******7890"),
        ("mail zhang.san@mail.example.com", "mail z***@mail.example.com"),
        ("errcode=10060004 rid: 6543a1b2-13812345678a", "errcode=10060004 rid: 6543a1b2-13812345678a"),
        ("503 Service Unavailable after 12345 ms", "503 Service Unavailable after 12345 ms"),
    ],
)
def test_numbers_inside_a_text(text: str, shown: str) -> None:
    """Phones, identity and bank cards and e-mail are found; codes and parts of ids are left."""
    assert mask_inside(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order A-991 of 张三丰 is unknown", "order *** of *** is unknown"),
        (r'{"name":"\u5f20\u4e09\u4e30"}', '{"name":"***"}'),
        ("name=%E5%BC%A0%E4%B8%89%E4%B8%B0&x", "name=***&x"),
        ("name=%e5%bc%a0%e4%b8%89%e4%b8%b0", "name=***"),
        (r'{"msg":"{\"name\":\"\\u5f20\\u4e09\\u4e30\"}"}', '{"msg":"{"name":"***"}"}'),
        (r'{"msg":"{\"name\":\"\\\\u5F20\\\\u4E09\\\\u4E30', '{"msg":"{"name":"***'),
        (r'{"msg":"{\"name\":\"张三丰\"}"}', r'{"msg":"{\"name\":\"***\"}"}'),
        (r'{"msg":"the file C:\\new is gone"}', r'{"msg":"the file C:\\new is gone"}'),
        ("name=%25E5%25BC%25A0%25E4%25B8%2589%25E4%25B8%25B0 x", "name=*** x"),
        ("no &#24352;&#x4e09;&#20016;", "no ***"),
        (r"to \u6d59\u6c5f\u7701\u676d\u5dde\u5e0", "to ***"),
        ("order a-991 of no one", "order *** of no one"),
        ("mail li%40example.com", "mail l***@example.com"),
        ("sum 19.9 is no 119.95", "sum *** is no 119.95"),
        ("cut off: 浙江省杭州市西湖", "cut off: ***"),
        ("to 浙江省杭州市西湖, not found", "to ***, not found"),
        ("only to 浙江省杭州市滨江区", "only to 浙江省杭州市滨江区"),
        ("retries used up", "retries used up"),
        ("size XL of 12 is out", "size *** of 12 is out"),
    ],
)
def test_words_about_a_payload_hold_none_of_it(text: str, shown: str) -> None:
    """Every value in every form it may come back in, also cut off, by the end of the text or by the platform."""
    assert Lens().words(PAYLOAD)(text) == shown
    whole = Lens((), View((), Shade.SHOW))
    assert whole.whole
    assert whole.words(PAYLOAD)(text) == text


def test_words_about_several_payloads_and_forms() -> None:
    """An answer to a batch may name any of it; a payload that is no JSON has values too."""
    words = Lens().words(PAYLOAD, None, b"buyer=%E6%9D%8E%E5%9B%9B&id=77412", b"\xff plain text")
    assert words("李四 77412 张三丰") == "*** *** ***"


def test_of_values_one_of_which_is_a_part_of_another_nothing_is_left() -> None:
    """A parcel's number begins with the order's, an address with its street: the longer one goes first."""
    parts = {"order": "200991", "parcel": "200991-7734-21", "street": "文三路", "address": "文三路90号"}
    assert Lens().words(msgspec.json.encode(parts))("200991-7734-21 goes to 文三路90号") == "*** goes to ***"


def test_ordering_keys_are_shown_unless_a_view_names_them() -> None:
    """``key`` in a list of the view; its default does not reach them."""
    assert Lens().key("991") == "991"
    assert Lens((), _view(show=["a"])).key("991") == "991"
    assert Lens((), _view(hide=["key"])).key("991") == "***"
    assert Lens((), _view(mask=["key"])).key("13812345678") == "138****5678"


def test_keys_of_a_payload_may_be_numbers_too() -> None:
    """A map by phone number shows no phone number."""
    shown = Lens((), View((), Shade.SHOW)).payload(b'{"13812345678":1,"name":2}').payload
    assert shown == {"138****5678": 1, "name": 2}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("receiver.name", ("receiver", "name")),
        ("items[*].phone", ("items", "phone")),
        ("items[].phone", ("items", "phone")),
        ("[0].a", ("a",)),
        ('"a.b".c', ("a.b", "c")),
        ("收件人.电话", ("收件人", "电话")),
        ("*.phone", ("*", "phone")),
    ],
)
def test_paths(text: str, path: tuple[str, ...]) -> None:
    """Lists are passed through; a key with a dot is quoted; ``*`` is any key."""
    assert parse_path(text) == path


@pytest.mark.parametrize("text", ["", ".", "a..b", "a.", "a b", "[*]", 'a"b"'])
def test_what_is_no_path(text: str) -> None:
    """It is refused, not guessed at."""
    with pytest.raises(ValueError, match="key"):
        parse_path(text)


def test_a_view_that_is_gone_masks() -> None:
    """A reload that takes a view away shows its users no more than everybody sees."""
    lenses = Lenses((), {"all": View((), Shade.SHOW)})
    assert lenses.of("all").whole
    lenses.replace((), {})
    assert not lenses.of("all").whole
