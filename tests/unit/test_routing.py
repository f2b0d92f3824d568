"""Routes: patterns of events, fields of payloads, the first that matches, and what is left over."""

import json
from typing import Any

import pytest
from relay.core.model import UNROUTED, Lane, NewCallback
from relay.ingest import fan_out as routing_module
from relay.ingest.fan_out import Routing, compile_route
from relay.ingest.post_options import read_post_options
from relay.ingest.posts import ROUTED_DEFAULTS, Directory, drafts
from relay.ingest.rows import PlatformIntake, Turn
from relay.web.refusal import Refusal
from relay.wire.payload.extract import KeyPath, TreePath, parse_json


def takes(match: dict[str, list[Any]], payload: Any, event: str | None = None) -> bool:
    """Say whether one route with these conditions takes a post."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Routing([compile_route("routes[0]", match, ["a"])]).choose(body, event).to == ("a",)


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        ("order.paid", "order.paid", True),
        ("order.paid", "order.paid.late", False),
        ("order.*", "order.paid", True),
        ("order.*", "order.item.shipped", True),
        ("order.*", "order", False),
        ("order.*", "reorder.paid", False),
        ("*.refunded", "order.refunded", True),
        ("*", "anything at all", True),
        ("*", None, False),
        ("order.paid", None, False),
        ("order.p?id", "order.paid", False),
        ("order.p?id", "order.p?id", True),
        ("[a-z]*", "order", False),
        ("Order.*", "order.paid", False),
        ("o*r.*d", "order.paid", True),
        ("order.*p*p", "order.p", False),  # each text between stars needs letters of its own
        ("order.*p*p", "order.pp", True),
        ("order.*pa*aid", "order.paid", False),
    ],
)
def test_event_patterns(pattern: str, event: str | None, expected: bool) -> None:
    """A star is any text, dots included; all else stands for itself; a post without event matches no pattern."""
    assert takes({"event": [pattern]}, {}, event) is expected


def test_any_of_several_patterns() -> None:
    """A list of patterns takes what one of them takes, and each as a whole."""
    match = {"event": ["order.*", "stock"]}
    assert takes(match, {}, "stock")
    assert takes(match, {}, "order.x")
    assert not takes(match, {}, "stock.x")


@pytest.mark.parametrize(
    ("match", "payload", "expected"),
    [
        ({"channel": ["wechat"]}, {"channel": "wechat"}, True),
        ({"channel": ["wechat", "wx"]}, {"channel": "wx"}, True),
        ({"channel": ["wechat"]}, {"channel": "taobao"}, False),
        ({"channel": ["wechat"]}, {}, False),
        ({"shop.id": [12]}, {"shop": {"id": 12}}, True),
        ({"shop.id": [12]}, {"shop": {"id": "12"}}, True),
        ({"shop.id": ["12"]}, {"shop": {"id": 12.0}}, True),
        ({"paid": [True]}, {"paid": True}, True),
        ({"paid": [True]}, {"paid": 1}, False),
        ({"n": [1]}, {"n": True}, False),
        ({"refund": [None]}, {}, True),
        ({"refund": [None]}, {"refund": None}, True),
        ({"refund": [None]}, {"refund": "null"}, False),
        ({"tags[0]": ["a"]}, {"tags": ["a", "b"]}, True),
        ({"contains(tags, 'b')": [True]}, {"tags": ["a", "b"]}, True),
        ({"contains(tags, 'b')": [True]}, {"tags": 5}, False),
        ({"@.event": ["x"]}, {"event": "x"}, True),
        ({"a": ["1"], "b": ["2"]}, {"a": "1", "b": "2"}, True),
        ({"a": ["1"], "b": ["2"]}, {"a": "1", "b": "3"}, False),
        ({"a": ["1"]}, [{"a": "1"}], False),
        ({"[0].a": ["1"]}, [{"a": "1"}], True),
        ({"a": ["1"]}, b"not json", False),
        ({"a": [None]}, b"not json", False),
        ({"a": [None]}, b"", False),
        ({"a": ["\u4e2d"]}, '{"a": "\u4e2d"}'.encode(), True),
        ({"a": ["1"]}, b"[" * 100_000, False),
    ],
)
def test_fields(match: dict[str, list[Any]], payload: Any, expected: bool) -> None:
    """Fields are compared as texts of JSON values; null is also what is not there; what is no JSON has no fields."""
    assert takes(match, payload) is expected


def test_first_match_decides_alone() -> None:
    """Later routes and `otherwise` are not asked once one matches; several targets keep their order."""
    routes = Routing(
        [
            compile_route("routes[0]", {"event": ["order.*"], "channel": ["wx"]}, ["b", "a"]),
            compile_route("routes[1]", {"event": ["order.*"]}, ["c"]),
        ],
        otherwise=[UNROUTED],
    )
    chosen = [routes.choose(body, "order.paid") for body in (b'{"channel":"wx"}', b"{}", b"raw")]
    assert [(route.label, route.to) for route in chosen] == [
        ("routes[0]", ("b", "a")),
        ("routes[1]", ("c",)),
        ("routes[1]", ("c",)),
    ]
    assert routes.choose(b'{"channel":"wx"}', "stock").to == (UNROUTED,)
    assert Routing().choose(b"{}", "x").to == ()
    assert Routing().empty
    assert not routes.empty


def test_a_payload_is_decoded_once_and_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many routes look at fields there is one decode, and none where events decide."""
    decoded: list[bytes] = []

    def counted(payload: bytes) -> Any:
        decoded.append(payload)
        return parse_json(payload)

    monkeypatch.setattr(routing_module, "parse_json", counted)
    by_field = [compile_route(f"routes[{n}]", {"a": [n], "b.c": [n]}, ["a"]) for n in range(5)]
    assert Routing(by_field).choose(b'{"a": 4, "b": {"c": 4}}', None).label == "routes[4]"
    assert len(decoded) == 1
    assert Routing([compile_route("r", {"event": ["x"]}, ["a"])]).choose(b'{"a": 4}', "x").to == ("a",)
    assert Routing([compile_route("r", {"event": ["y"], "a": [4]}, ["a"])]).choose(b'{"a": 4}', "x").to == ()
    assert len(decoded) == 1


@pytest.mark.parametrize("expression", ["a", '"a"', "a.b", "length(a)", "@"])
@pytest.mark.parametrize(
    "body", [b"{}", b'{"a": 12.0}', b'{"a": {"b": [1, 2]}}', b'{"a": "x"}', b"[1]", b'{"a": true}']
)
def test_a_path_reads_trees_as_keys_read_bytes(expression: str, body: bytes) -> None:
    """A route and an ordering key with one expression see the same text."""
    assert TreePath(expression)(parse_json(body)) == KeyPath(expression)(body)


PLATFORMS = {
    "keyed": PlatformIntake(
        name="keyed", needs_json=True, expires_s=50.0, max_bytes=60, frame_bytes=1, item_bytes=1, key=KeyPath("id")
    ),
    "raw": PlatformIntake(name="raw", needs_json=False, expires_s=70.0, max_bytes=1000),
}
DIRECTORY = Directory(
    Routing(
        [compile_route("routes[0]", {"event": ["both"]}, ["keyed", "raw"])],
        otherwise=[UNROUTED],
    ),
    PLATFORMS,
)


def draft(body: bytes, **headers: str) -> Any:
    """Draft a post with ``Relay_Event``-like headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return DIRECTORY.draft(body, read_post_options(named, ROUTED_DEFAULTS), "text/x")


def test_each_target_has_its_own_key_and_expiry() -> None:
    """A key is read by the target that wants one unless the client gave it; unsaid expiry is the target's own."""
    own = draft(b'{"id": 7}', Relay_Event="both", Idempotency_Key="i").post
    assert [(row.platform, row.key, row.expires_s, row.idempotency_key) for row in own.rows] == [
        ("keyed", "7", 50.0, None),
        ("raw", None, 70.0, None),
    ]
    assert (own.key, own.idempotency_key, own.dead_reason) == (None, "i", None)
    said = draft(b'{"id": 7}', Relay_Event="both", Relay_Key="k", Relay_Expires="9s", Relay_Priority="high").post
    assert [(row.key, row.expires_s, row.lane) for row in said.rows] == [("k", 9.0, Lane.HIGH)] * 2
    assert said.key == "k"


def test_what_one_target_cannot_take_is_refused_whole() -> None:
    """The refusal names the target; with an idempotency key the store is asked first whether it is a repeat."""
    with pytest.raises(Refusal) as caught:
        draft(b"no json", Relay_Event="both")
    assert (caught.value.code, caught.value.detail.split(":")[0]) == ("invalid_json", "for keyed")
    with pytest.raises(Refusal) as caught:
        draft(b'"%b"' % (b"x" * 100), Relay_Event="both")
    assert caught.value.code == "too_large"
    kept = draft(b"no json", Relay_Event="both", Idempotency_Key="i")
    assert (kept.post.rows, kept.post.idempotency_key, kept.refusal.code) == ((), "i", "invalid_json")


@pytest.mark.parametrize("enveloped", [False, True])
def test_a_line_is_bounded_as_a_post_of_its_own(enveloped: bool) -> None:
    """Each payload of a routed bulk has ``max_body`` bytes at the most, with an envelope around it or without."""
    line = b'{"payload": "123456789"}' if enveloped else b'"123456789"'
    options = read_post_options({"Relay-Event": "both"}, ROUTED_DEFAULTS)
    (found,) = drafts(Turn(1, [line], len(line)), DIRECTORY, options, 11, enveloped=enveloped)
    assert found.post.payload == b'"123456789"'
    with pytest.raises(Refusal) as caught:
        drafts(Turn(7, [b"", line], len(line)), DIRECTORY, options, 10, enveloped=enveloped)
    assert (caught.value.code, caught.value.extra) == ("too_large", {"line": 8, "limit": 10})


def test_unrouted_and_routed_again() -> None:
    """What is kept as unrouted keeps what the client said, so that routing it again is as if it came now."""
    post = draft(b'{"id": 1}', Relay_Event="nobody's", Relay_Key="k", Relay_Priority="low").post
    assert post.dead_reason == "unrouted"
    (row,) = post.rows
    assert row == NewCallback(UNROUTED, b'{"id": 1}', "k", "nobody's", Lane.LOW, 0.0, None, "text/x", None, "")
    assert DIRECTORY.reroute(row) == "no_route"
    again = DIRECTORY.reroute(row._replace(event="both"))
    assert [(one.platform, one.key, one.lane, one.expires_s, one.content_type) for one in again] == [
        ("keyed", "k", Lane.LOW, 50.0, "text/x"),
        ("raw", "k", Lane.LOW, 70.0, "text/x"),
    ]
    assert DIRECTORY.reroute(row._replace(event="both", payload=b"no json")) == "invalid_json"
    assert Directory(Routing(), PLATFORMS).reroute(row) == "no_route"
