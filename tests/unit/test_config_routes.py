"""Settings of `routes:` and `accept:`: what they compile to, and every kind of mistake with its place and hint."""

from pathlib import Path

import pytest
from config_files import MINIMAL, codes, loaded, problems
from relay.config.diff import difference
from relay.core.model import UNROUTED
from relay.daemon.intake import directory

OWN_PATH = "give each platform a path of its own"
PLATFORMS = "version: 1\nplatforms: {a: {url: https://a/, key: id}, b: {url: https://b/, envelope: single}}\n"


def test_routes_are_compiled_as_written(tmp_path: Path) -> None:
    """One value or a list, fields and events, several targets; the last entry takes what is left."""
    config = loaded(
        tmp_path,
        PLATFORMS
        + """
routes:
  - {match: {event: "order.*", channel: [wx, wechat], shop.id: 7}, to: [a, b]}
  - {match: {event: [stock, price], on: no}, to: [b]}
  - {otherwise: {to: [a]}}
""",
    )
    routing = directory(config).routing
    assert routing.choose(b'{"channel": "wx", "shop": {"id": "7"}}', "order.x").to == ("a", "b")
    assert routing.choose(b'{"on": "no"}', "price").to == ("b",)
    assert routing.choose(b'{"on": false}', "price").to == ("a",)


@pytest.mark.parametrize(
    ("last", "to"), [("", ()), ("  - otherwise: reject\n", ()), ("  - otherwise: dead_letter\n", (UNROUTED,))]
)
def test_what_no_route_takes(tmp_path: Path, last: str, to: tuple[str, ...]) -> None:
    """Rejected unless the configuration says otherwise."""
    config = loaded(tmp_path, PLATFORMS + "routes:\n  - {match: {event: x}, to: [a]}\n" + last)
    assert directory(config).routing.choose(b"{}", "y").to == to


def test_drop_in_replies(tmp_path: Path) -> None:
    """Status and body as written; the content type follows the body unless it is given."""
    config = loaded(
        tmp_path,
        """
version: 1
platforms:
  a: {url: https://a/, accept: {path: /wx/notify, reply: {status: 200, body: '{"errcode":0}'}}}
  b: {url: https://b/, accept: {path: /b}}
  c: {url: https://c/, accept: {path: /c, reply: {status: 201, body: <ok/>, content_type: text/xml; charset=gbk}}}
  d: {url: https://d/, accept: {path: /d/, reply: {body: success}}}
""",
    )
    found = {one.path: (one.platform.name, *one[2:]) for one in directory(config).drop_ins}
    assert found == {
        "/wx/notify": ("a", 200, b'{"errcode":0}', "application/json"),
        "/b": ("b", 200, b"", "text/plain; charset=utf-8"),
        "/c": ("c", 201, b"<ok/>", "text/xml; charset=gbk"),
        "/d/": ("d", 200, b"success", "text/plain; charset=utf-8"),
    }


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ("[{match: {event: x}}]", [(3, 10, "E060")]),
        ("[{to: [a]}]", [(3, 10, "E060")]),
        ("[{}]", [(3, 10, "E060")]),
        ("[5]", [(3, 10, "E013")]),
        ("{otherwise: reject}", [(3, 9, "E013")]),
        ("[{match: {}, to: [a]}]", [(3, 18, "E060")]),
        ("[{match: [x], to: [a]}]", [(3, 18, "E013")]),
        ("[{match: {channel: []}, to: [a]}]", [(3, 18, "E060")]),
        ("[{match: {channel: {a: 1}}, to: [a]}]", [(3, 18, "E060")]),
        ("[{match: {event: 5}, to: [a]}]", [(3, 18, "E060")]),
        ("[{match: {event: ''}, to: [a]}]", [(3, 18, "E060")]),
        ("[{match: {'a.[': 5}, to: [a]}]", [(3, 18, "E027")]),
        ("[{match: {event:}, to: [a]}]", [(3, 19, "E014")]),
        ("[{match: {x: 1}, to: []}]", [(3, 30, "E060")]),
        ("[{match: {x: 1}, to: a}]", [(3, 30, "E013")]),
        ("[{match: {x: 1}, to: [a, a]}]", [(3, 30, "E060")]),
        ("[{match: {x: 1}, to: [a], otherwise: reject}]", [(3, 10, "E060")]),
        ("[{match: {x: 1}, too: [a]}]", [(3, 26, "E010")]),
        ("[{otherwise: dead_leter}]", [(3, 22, "E015")]),
        ("[{otherwise: {to: []}}]", [(3, 27, "E060")]),
        ("[{otherwise: {}}]", [(3, 11, "E011")]),
        ("[{match: {x: 1}, to: [c]}, {otherwise: {to: [b, d]}}]", [(3, 31, "E062"), (3, 57, "E062")]),
        ("[{match: {x: 1}, to: [_unrouted]}]", [(3, 31, "E026")]),
        ("[{otherwise: reject}, {match: {x: 1}, to: [a]}]", [(3, 31, "E064")]),
        ("[{otherwise: reject}, {otherwise: reject}]", [(3, 31, "E064")]),
        ("[{match: {x: 1}, to: [a]}, {match: {x: 1, y: 2}, to: [b]}]", [(3, 36, "E064")]),
        ("[{match: {x: [1, 2]}, to: [a]}, {match: {x: 2}, to: [b]}]", [(3, 41, "E064")]),
        ("[{match: {event: '*'}, to: [a]}, {match: {event: x}, to: [b]}]", [(3, 42, "E064")]),
    ],
)
def test_mistakes_in_routes(tmp_path: Path, routes: str, expected: list[tuple[int, int, str]]) -> None:
    """Each mistake is one problem at its place; none follows from another."""
    assert codes(tmp_path, PLATFORMS + f"routes: {routes}\n") == expected


@pytest.mark.parametrize(
    "routes",
    [
        "[{match: {x: 1, y: 2}, to: [a]}, {match: {x: 1}, to: [b]}]",
        "[{match: {x: 2}, to: [a]}, {match: {x: [1, 2]}, to: [b]}]",
        "[{match: {x: 1}, to: [a]}, {match: {x: true}, to: [b]}]",
        "[{match: {event: x}, to: [a]}, {match: {event: '*'}, to: [b]}]",
        "[{match: {x: 1}, to: [a]}, {match: {event: x}, to: [b]}]",
        "[]",
    ],
)
def test_routes_that_can_be_reached(tmp_path: Path, routes: str) -> None:
    """A narrower route before a wider one is no mistake."""
    loaded(tmp_path, PLATFORMS + f"routes: {routes}\n")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("{path: wx}", "E061"),
        ("{path: 5}", "E061"),
        ("{path: '/a b'}", "E061"),
        ("{path: '/a?x=1'}", "E061"),
        ("{path: '/{id}'}", "E061"),
        ("{path: '/\u4e2d'}", "E061"),
        ("{path: /v1/x}", "E063"),
        ("{path: /v1}", "E063"),
        ("{path: /livez}", "E063"),
        ("{path: /readyz}", "E063"),
        ("{reply: {}}", "E011"),
        ("{path: /x, reply: {status: 500}}", "E016"),
        ("{path: /x, reply: {status: 299}}", "E016"),
        ("{path: /x, reply: {status: true}}", "E016"),
        ("{path: /x, reply: {body: {errcode: 0}}}", "E013"),
        ("{path: /x, reply: {content_type: 'a\\nb'}}", "E029"),
        ("{path: /x, replies: {}}", "E010"),
        ("/x", "E013"),
    ],
)
def test_mistakes_in_accept(tmp_path: Path, accept: str, expected: str) -> None:
    """Each mistake in a drop-in path is one problem."""
    text = f"version: 1\nplatforms: {{a: {{url: https://a/, accept: {accept}}}}}\n"
    assert [code for _, _, code in codes(tmp_path, text)] == [expected]


def test_one_path_belongs_to_one_platform(tmp_path: Path) -> None:
    """The second owner is told who has the path, and a misspelt platform what was meant, beside other problems."""
    text = """\
version: 1
platforms:
  shop-a: {url: https://a/, accept: {path: /wx}}
  shop-b: {url: https://b/, accept: {path: /wx}}
  shop-c: {url: https://c/, accept: {path: wx}, timeout: 5}
routes: [{match: {x: 1}, to: [shop-aa]}]
"""
    assert [(one.line, one.code, one.message, one.hint) for one in problems(tmp_path, text)] == [
        (4, "E063", "platforms.shop-b.accept.path: /wx already belongs to shop-a", OWN_PATH),
        (5, "E061", "platforms.shop-c.accept.path: 'wx' is not a path", "write /wx/notify"),
        (5, "E021", "platforms.shop-c.timeout: duration 5 has no unit", "write 5s or 5m"),
        (6, "E062", "routes[0].to[0]: there is no platform 'shop-aa'", "did you mean 'shop-a'?"),
    ]


def test_a_reload_shows_changed_routes(tmp_path: Path) -> None:
    """Routes and paths are part of what a reload would change; platforms named in routes are not touched."""
    old = loaded(tmp_path, PLATFORMS + "routes: [{match: {x: 1}, to: [a]}]\n")
    new = loaded(tmp_path, PLATFORMS + "routes: [{match: {x: 1}, to: [a, b]}]\n")
    found = difference(old, new)
    assert [change.path for change in found.changes] == [("routes",)]
    assert found.unchanged == ("a", "b")
    assert not difference(loaded(tmp_path, MINIMAL), loaded(tmp_path, MINIMAL + "routes: []\n")).changes
