"""What the admin API takes from its callers: nothing that says nothing, nothing that could mean two things, no numbers
that fit nowhere. Whatever is odd is a 4xx that names the key, and nothing is done."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from admin_side import AdminSide, admin_side

PAUSE = "/v1/platforms/shop-a/pause"
RESUME = "/v1/platforms/shop-a/resume"
FLUSH = "/v1/platforms/shop-a/flush"
LIMIT = "/v1/platforms/shop-a/limit"
RELOAD = "/v1/config/reload"
OPERATIONS = "/v1/operations"

BODIES: dict[str, dict[str, Any]] = {
    PAUSE: {"reason": "sale"},
    RESUME: {"reason": "sale"},
    FLUSH: {"reason": "sale"},
    LIMIT: {"rate": "80/min", "for": "2h", "forget": False, "reason": "sale"},
    RELOAD: {"dry_run": True, "force": False, "reason": "sale"},
    OPERATIONS: {
        "action": "resolve",
        "filter": {"platform": "shop-a"},
        "expect_count": 0,
        "rate": "50/min",
        "reason": "sale",
        "as": "dead",
        "reorder": True,
        "dry_run": True,
    },
}
FILTER = {
    "platform": "shop-a",
    "state": "dead",
    "key": "A-1",
    "event": "order.paid",
    "reason": "rejected",
    "ids": ["A"],
    "since": "2h",
    "until": "1h",
}
LISTS = ("/v1/callbacks", "/v1/dead-letters")
QUERIES = {"platform": "shop-a", "key": "A-1", "event": "e", "reason": "r", "ids": "A", "since": "2h", "until": "1h"}

DIGITS = "9" * 5000
ODD_TEXTS = (
    DIGITS, "-" + DIGITS, "1" + "0" * 18, "9" * 19, "1e999", "0x10", "1_000", "+5", "-1", " 5", "１", "NaN", "null",
    "\0", "\n", "\ud7ff", "🙂", "%", "%zz", "../..", "a" * 2000, "{}", "[]", "'", ";",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    *ODD_TEXTS[1:], 10**18, 10**30, -1, 1.5, 1e300, True, False, {"a": 1}, [1], [None], [[]], [""], ["A", None],
)  # fmt: skip


class Talker:
    """Calls an admin side, and knows whether anything was done."""

    def __init__(self, session: aiohttp.ClientSession, side: AdminSide) -> None:
        self.session = session
        self.side = side

    async def get(self, path: str) -> tuple[int, Any]:
        """Get and return status and JSON."""
        async with self.session.get(self.side.url + path) as response:
            return response.status, json.loads(await response.read())

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Post JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.side.url + path, data=data) as response:
            return response.status, json.loads(await response.read())

    @property
    def done(self) -> tuple[Any, ...]:
        """What reached delivery, the configuration and the audit log."""
        return self.side.control.asked, self.side.config.reloads, self.side.records


@pytest.fixture
async def admin() -> AsyncIterator[Talker]:
    """An admin side without users, with two callbacks."""
    async with admin_side() as side, aiohttp.ClientSession() as session:
        await side.accept(2)
        yield Talker(session, side)


@pytest.mark.parametrize("nothing", [None, "", []])
@pytest.mark.parametrize(("path", "key"), [(path, key) for path, body in BODIES.items() for key in body])
async def test_a_key_that_says_nothing_is_refused(admin: Talker, path: str, key: str, nothing: Any):
    """Null, an empty text and an empty list are what serialisers write for "not given": 400 by name, nothing done."""
    status, problem = await admin.post(path, {**BODIES[path], key: nothing})
    assert (status, problem["code"]) == (400, "invalid_request"), problem
    assert f"'{key}'" in problem["detail"]
    assert admin.done == ([], [], [])


@pytest.mark.parametrize("path", BODIES)
async def test_the_bodies_of_these_tests_are_good(admin: Talker, path: str):
    """Without the odd value each of them is taken."""
    assert (await admin.post(path, BODIES[path]))[0] in (200, 202)


@pytest.mark.parametrize("nothing", [None, "", []])
@pytest.mark.parametrize("key", FILTER)
async def test_a_filter_of_nothing_is_no_filter(admin: Talker, key: str, nothing: Any):
    """It would match everything: 400 for the key, also beside keys that say something, and nothing is dropped."""
    for wanted in ({key: nothing}, {**FILTER, key: nothing}, dict.fromkeys(FILTER, nothing)):
        status, problem = await admin.post(OPERATIONS, {"action": "drop", "filter": wanted})
        assert (status, problem["code"]) == (400, "invalid_filter")
        assert problem["key"] in wanted
    assert admin.done == ([], [], [])
    assert (await admin.get("/v1/ledger"))[1]["total"]["pending"] == 2


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("key", [*QUERIES, "state", "cursor", "limit"])
async def test_a_query_key_says_something_once(admin: Talker, path: str, key: str):
    """Empty, without a value, or there twice: 400 by name."""
    value = QUERIES.get(key, "dead")
    for query in (f"{key}=", key, f"{key}={value}&{key}={value}", f"{key}={value}&{key}="):
        status, problem = await admin.get(f"{path}?{query}")
        code = "invalid_cursor" if query in ("cursor=", "cursor") else "invalid_filter"
        assert (status, problem["code"]) == (400, code), query


@pytest.mark.parametrize("value", ["", "2", "yes", "null", "True"])
async def test_a_payload_is_asked_for_in_plain_words(admin: Talker, value: str):
    """Each look at a payload is on record; what is no 1 or 0 is no look."""
    _, found = await admin.get("/v1/callbacks")
    status, problem = await admin.get(f"/v1/callbacks/{found['items'][0]['id']}?payload={value}")
    assert (status, problem["code"], problem["key"]) == (400, "invalid_filter", "payload")
    assert admin.done == ([], [], [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (OPERATIONS, b'{"action":"drop","filter":{"platform":"shop-a"},"filter":{"platform":"shop-b"}}'),
        (OPERATIONS, b'{"action":"drop","filter":{"platform":"shop-a","platform":"shop-b"}}'),
        (OPERATIONS, b'{"action":"retry","action":"drop","filter":{"platform":"shop-a"}}'),
        (OPERATIONS, b'{"action":"drop","filter":{"platform":"shop-a"},"dry_run":true,"dry_run":false}'),
        (RELOAD, b'{"dry_run":true,"dry_run":false}'),
        (PAUSE, b'{"reason":"a","reason":"b"}'),
    ],
)
async def test_a_key_that_stands_twice_is_refused(admin: Talker, path: str, body: bytes):
    """Two readers would take another one of them (RFC 8259 section 4)."""
    status, problem = await admin.post(path, body)
    assert (status, problem["code"]) == (400, "invalid_request")
    assert "stands twice" in problem["detail"]
    assert admin.done == ([], [], [])


@pytest.mark.parametrize("flag", ["dry_run", "reorder"])
@pytest.mark.parametrize("value", [0, 1, "false", "true", "no", {}, [False]])
async def test_a_switch_is_true_or_false(admin: Talker, flag: str, value: Any):
    """A dry run written as 0 or "no" must neither run nor be guessed."""
    body = {"action": "retry", "filter": {"platform": "shop-a"}, flag: value}
    status, problem = await admin.post(OPERATIONS, body)
    assert (status, problem["code"], problem["key"]) == (400, "invalid_request", flag)
    assert admin.done == ([], [], [])


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_no_text_in_a_path_or_query_is_a_fault_of_ours(admin: Talker, text: str):
    """Thousands of digits, other digits, control characters: the answer is always a problem with a code below 500."""
    odd = quote(text, safe="")
    paths = [f"/v1/callbacks/{odd}", f"/v1/operations/{odd}", f"/v1/platforms/{odd}", f"/{odd}", f"/v1/callbacks?{odd}"]
    paths += [f"{path}?{key}={odd}" for path in LISTS for key in (*QUERIES, "state", "cursor", "limit", "nosuch")]
    paths += [f"/v1/callbacks/A?payload={odd}"]
    for path in paths:
        status, found = await admin.get(path)
        assert status < 500, (path[:60], found)
        assert "items" in found or found["code"], found
        if "state=" in path or "cursor=" in path or "limit=" in path:
            assert status == 400 or (text.strip() == "+5"), (path[:60], status)


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
async def test_no_value_in_a_body_is_a_fault_of_ours(admin: Talker, value: Any):
    """Under any key of any body: below 500, and a wrong type is 400."""
    for path, good in BODIES.items():
        for key in good:
            status, found = await admin.post(path, {**good, key: value})
            assert status < 500, (path, key, found)
            if isinstance(value, int | float | dict) and not isinstance(value, bool) and key != "expect_count":
                assert status == 400, (path, key, found)
    for key in FILTER:
        body = {"action": "drop", "filter": {key: value}, "dry_run": True}
        status, found = await admin.post(OPERATIONS, body)
        assert status < 500, (key, found)
        if not isinstance(value, str | list):
            assert (status, found["code"]) == (400, "invalid_filter")


@pytest.mark.parametrize(
    "body",
    [
        DIGITS.encode(),
        b'{"expect_count":' + DIGITS.encode() + b"}",
        b'{"expect_count":-' + DIGITS.encode() + b"}",
        b'{"expect_count":1e' + DIGITS.encode() + b"}",
        b"[" * 100_000,
        b'{"filter":' * 50_000,
        b'"\\ud800"',
        b'{"reason":"\\ud800"}',
        b'{"reason":"\xff"}',
        b'{"reason":"a\0b"}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"null",
        b"[]",
        b'""',
        b"7",
        b"NaN",
        b'{"expect_count":NaN}',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", BODIES)
async def test_a_body_that_is_no_plain_object(admin: Talker, path: str, body: bytes):
    """400, whatever it is, and nothing done."""
    status, problem = await admin.post(path, body)
    assert (status, problem["code"] in ("invalid_json", "invalid_request")) == (400, True)
    assert admin.done == ([], [], [])


async def test_a_count_is_a_number_a_store_can_hold(admin: Talker):
    """One that fits nowhere is no count; one that fits but is wrong is a mismatch."""
    for count, status in ((10**15 + 1, 400), (10**25, 400), (2.0, 400), (-1, 400), (10**15, 409)):
        body = {"action": "drop", "filter": {"platform": "shop-a"}, "expect_count": count}
        assert (await admin.post(OPERATIONS, body))[0] == status


async def test_a_cursor_belongs_to_its_list(admin: Talker):
    """One of another filter, of no list or of another store is 400; a page size or an age may change."""
    await admin.side.accept(9)
    _, first = await admin.get("/v1/callbacks?limit=2&state=pending&since=1h")
    cursor = first["next"]
    status, second = await admin.get(f"/v1/callbacks?limit=3&state=pending&since=2h&cursor={cursor}")
    assert (status, len(second["items"])) == (200, 3)
    assert not {item["id"] for item in first["items"]} & {item["id"] for item in second["items"]}
    number, _, mark = cursor.rpartition(".")
    bad = [number, f"{int(number) + 1}.{mark}", f"{number}.{mark[::-1]}", f"{DIGITS}.{mark}", f".{mark}", "x", "1", "0"]
    queries = [f"state=pending&cursor={each}" for each in bad]
    queries += [f"cursor={cursor}", f"state=dead&cursor={cursor}", f"state=pending&platform=shop-a&cursor={cursor}"]
    for query in queries:
        status, problem = await admin.get(f"/v1/callbacks?{query}")
        assert (status, problem["code"]) == (400, "invalid_cursor"), query
