"""The console's login: a cookie for a token, from our own pages alone, ended by logout, time, reload and restart."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from relay.admin.access import User
from relay.admin.sessions import LASTS_S, MOST_TRIES, TRIES_OVER_S
from tests.integration.admin_side import USERS, AdminSide, admin_side


class Browser:
    """Asks as a browser does: with its cookie, and the Origin of the page it shows."""

    def __init__(self, http: aiohttp.ClientSession, side: AdminSide) -> None:
        self.side = side
        self._http = http
        self.cookie = ""

    async def ask(self, method: str, path: str, body: Any = None, *, origin: str | None = "own") -> tuple[int, Any]:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if origin is not None:
            headers["Origin"] = self.side.url if origin == "own" else origin
        async with self._http.request(method, self.side.url + path, json=body, headers=headers) as answer:
            told = answer.headers.get("Set-Cookie", "")
            if told:
                self.told = told
                self.cookie = told.partition(";")[0]
            return answer.status, await answer.json(content_type=None) if answer.status != 204 else None

    async def log_in(self, role: str = "operator") -> int:
        return (await self.ask("POST", "/v1/session", {"token": f"{role}-token"}))[0]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser before a listener with users."""
    jar = aiohttp.DummyCookieJar()
    async with admin_side(users=USERS) as side, aiohttp.ClientSession(cookie_jar=jar) as http:
        yield Browser(http, side)


async def test_a_token_buys_a_cookie_that_scripts_and_other_sites_cannot_use(browser: Browser) -> None:
    """It says who asks; logging out ends it."""
    assert (await browser.ask("GET", "/v1/session"))[0] == 401
    assert await browser.log_in() == 204
    assert browser.told.endswith("; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict")
    assert await browser.ask("GET", "/v1/session") == (
        200,
        {"name": "operator", "role": "operator", "may": ["stats", "view", "operate"], "login": True},
    )
    kept = browser.cookie
    assert (await browser.ask("DELETE", "/v1/session"))[0] == 204
    assert browser.cookie == "relay_session="
    browser.cookie = kept
    assert (await browser.ask("GET", "/v1/platforms"))[0] == 401


async def test_behind_tls_the_cookie_is_secure(browser: Browser) -> None:
    """A proxy that ends TLS shows in the Origin."""
    status, _ = await browser.ask(
        "POST", "/v1/session", {"token": "viewer-token"}, origin=browser.side.url.replace("http://", "https://")
    )
    assert status == 204
    assert browser.told.endswith("; Secure")


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("own", ""),
        (None, "forbidden_origin"),
        ("https://evil.example", "forbidden_origin"),
        ("null", "forbidden_origin"),
    ],
)
async def test_a_change_with_the_cookie_needs_our_own_origin(browser: Browser, origin: str | None, code: str) -> None:
    """So do logging in and out from a foreign page; a look does not need one."""
    await browser.log_in()
    status, told = await browser.ask("POST", "/v1/platforms/shop-a/pause", {"reason": "x"}, origin=origin)
    assert (status, told.get("code", "")) == (403 if code else 200, code)
    assert browser.side.control.asked == ([] if code else [("pause", "shop-a", "x")])
    assert (await browser.ask("GET", "/v1/platforms", origin=None))[0] == 200
    assert (await browser.ask("DELETE", "/v1/session", origin=origin))[0] == (403 if code else 204)
    if origin is not None:
        assert (await browser.ask("POST", "/v1/session", {"token": "viewer-token"}, origin=origin))[0] == (
            403 if code else 204
        )


async def test_a_role_stays_what_it_is(browser: Browser) -> None:
    """A viewer's cookie changes nothing."""
    await browser.log_in("viewer")
    status, told = await browser.ask("POST", "/v1/platforms/shop-a/pause", {})
    assert (status, told["code"]) == (403, "forbidden")


async def test_a_session_ends_after_twelve_hours(browser: Browser) -> None:
    """By the relay's clock."""
    await browser.log_in()
    browser.side.clock.at += LASTS_S - 1
    assert (await browser.ask("GET", "/v1/session"))[0] == 200
    browser.side.clock.at += 1
    assert (await browser.ask("GET", "/v1/session"))[0] == 401


@pytest.mark.parametrize(
    ("users", "status"),
    [
        (USERS, 200),
        ([each for each in USERS if each.name != "operator"], 401),
        ([User("operator", "viewer", "operator-token"), *USERS[3:]], 401),
        ([User("operator", "operator", "another-token"), *USERS[3:]], 401),
    ],
)
async def test_a_reload_that_changes_the_user_ends_the_session(
    browser: Browser, users: list[User], status: int
) -> None:
    """Dropped, with another role or with another token; one that changes others does not."""
    await browser.log_in()
    browser.side.access.replace(users)
    assert (await browser.ask("GET", "/v1/platforms"))[0] == status


async def test_after_ten_wrong_tokens_a_minute_none_is_looked_at(browser: Browser) -> None:
    """Not even the right one; a minute after the first wrong one it is."""
    for _ in range(MOST_TRIES):
        assert (await browser.ask("POST", "/v1/session", {"token": "wrong"}))[0] == 401
        browser.side.clock.at += 1
    status, told = await browser.ask("POST", "/v1/session", {"token": "operator-token"})
    assert (status, told["code"]) == (429, "too_many_tries")
    browser.side.clock.at += TRIES_OVER_S - MOST_TRIES
    assert await browser.log_in() == 204


@pytest.mark.parametrize("body", [None, {}, {"token": 5}, {"token": None}, {"token": "x", "user": "y"}, ["token"]])
async def test_a_login_that_is_none_is_refused(browser: Browser, body: Any) -> None:
    """With a 400, and without counting as a wrong token."""
    assert (await browser.ask("POST", "/v1/session", body))[0] == 400


async def test_without_users_nobody_logs_in() -> None:
    """Whoever is on this machine is let in already."""
    async with admin_side() as side, aiohttp.ClientSession() as http:
        browser = Browser(http, side)
        assert (await browser.ask("POST", "/v1/session", {"token": "x"}))[0] == 409
        assert (await browser.ask("GET", "/v1/session"))[1] == {
            "name": "local", "role": "local", "may": ["stats", "view", "operate", "forget"], "login": False,
        }  # fmt: skip


async def test_the_page_is_served_everywhere_and_its_files_for_ever(browser: Browser) -> None:
    """Under a path with a hash of what they hold; the page itself is asked for anew each time."""
    async with aiohttp.ClientSession() as http:
        pages = []
        for path in ("/", "/ui", "/ui/", "/ui/callbacks?key=1", "/ui/callbacks/ID", "/ui/a/b/c/d"):
            async with http.get(browser.side.url + path) as answer:
                assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
                assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
                pages.append(await answer.text())
        assert len(set(pages)) == 1
        address = pages[0].partition('<script type="module" src="')[2].partition('"')[0]
        async with http.get(browser.side.url + address) as answer:
            assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
            assert "immutable" in answer.headers["Cache-Control"]
            assert answer.content_type == "text/javascript"
        for path in (f"{address}x", address.replace("app.js", "../access.py"), "/assets/0/app.js"):
            async with http.get(browser.side.url + path) as answer:
                assert answer.status == 404
        async with http.post(f"{browser.side.url}/ui/") as answer:
            assert answer.status == 405


async def test_wrong_tokens_are_recorded(browser: Browser) -> None:
    """From where and for what; at the login and in a header; of a flood from one address ten a minute."""
    assert (await browser.ask("POST", "/v1/session", {"token": "guess"}))[0] == 401
    for _ in range(MOST_TRIES + 3):
        async with aiohttp.ClientSession(browser.side.url, headers={"Authorization": "Bearer guess"}) as http:
            assert (await http.get("/v1/platforms")).status == 401
    assert (await browser.ask("GET", "/v1/platforms"))[0] == 401  # no token is no wrong token
    records = browser.side.records
    assert [(each["action"], each["target"]) for each in records] == [
        ("login.failed", "/v1/session"),
        *[("login.failed", "/v1/platforms")] * MOST_TRIES,
    ]
    assert {(each["who"], each["from"]) for each in records} == {("?", "127.0.0.1")}
    assert "guess" not in str(records)
