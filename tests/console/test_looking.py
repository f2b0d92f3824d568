"""What a person sees: the login, every page, both languages and themes, a phone's width, hostile payloads."""

import re

import pytest
from playwright.sync_api import Page, expect
from tests.console.browser_side import USERS, Relay, log_in, shown, until
from tests.console.conftest import HOSTILE

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
PAGES = {"overview": "/ui/", "callbacks": "/ui/callbacks?state=pending", "dead-letters": "/ui/dead-letters"}
PAGES |= {
    "audit": "/ui/audit",
    "alerts": "/ui/alerts",
    "platform": "/ui/platforms/shop-c",
    "operations": "/ui/operations",
    "hosts": "/ui/hosts",
    "reconcile": "/ui/reconcile",
    "config": "/ui/config",
}


def test_a_stranger_sees_a_form_and_a_token_opens_the_overview(page: Page, relay: Relay) -> None:
    """A wrong token is told; the right one leads to the page that was asked for."""
    answer = page.goto(f"{relay.admin}/")
    assert answer is not None
    assert answer.headers["content-security-policy"] == POLICY
    shown(page, "login")
    page.fill('input[name="token"]', "wrong")
    page.click('[data-action="login"]')
    expect(page.locator("[data-result]")).to_contain_text("The token is not known")

    page.fill('input[name="token"]', "viewer-token-for-the-tests")
    page.keyboard.press("Enter")

    shown(page, "overview")
    cookie = next(each for each in page.context.cookies() if each["name"] == "relay_session")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
    page.click('[data-action="logout"]')
    shown(page, "login")
    page.reload()
    shown(page, "login")


def test_the_overview_has_a_row_a_platform_and_a_ledger_that_adds_up(page: Page, relay: Relay) -> None:
    """States in words, and the totals of the API."""
    log_in(page, relay, "viewer")
    shown(page, "overview")

    def adds_up() -> bool:  # what other tests left may still end
        total = relay.ask("GET", "/v1/ledger")["total"]
        names = ("accepted", "delivered", "dead", "pending", "unaccounted")
        shown_now = [page.locator(f'[data-ledger="{name}"]').get_attribute("data-value") for name in names]
        return shown_now == [str(total[name]) for name in names]

    until(adds_up, "the totals of the API on the page")
    for name in ("shop-a", "shop-b", "shop-c"):
        for field in ("state", "reason", "until", "in", "out", "pending", "oldest", "held", "dead", "used", "drain"):
            expect(page.locator(f'[data-platform="{name}"] [data-field="{field}"]')).to_have_count(1)
    expect(page.locator('[data-platform="shop-a"] [data-field="state"]')).to_have_text("ok")
    expect(page.locator('[data-platform="shop-b"] [data-field="dead"]')).to_contain_text("5")


def test_an_order_is_found_by_its_key_and_says_why_it_waits(page: Page, relay: Relay) -> None:
    """From the search form to the callback; its address opened anew shows the same."""
    log_in(page, relay, "viewer", "/ui/callbacks")
    shown(page, "callbacks")
    page.fill('[data-search] [name="key"]', "C-991")
    page.keyboard.press("Enter")
    expect(page.locator("[data-count]")).to_have_attribute("data-value", "2")
    assert page.url.endswith("/ui/callbacks?key=C-991")
    expect(page.locator("tr[data-callback]")).to_have_count(2)
    page.locator("tr[data-callback] a").first.click()
    shown(page, "callback")
    page.reload()
    shown(page, "callback")
    expect(page.locator("[data-waiting]")).to_contain_text("An earlier callback of its key goes first")
    expect(page.locator("[data-payload]")).to_contain_text("order_id")


def test_markup_in_a_payload_is_only_text(page: Page, relay: Relay) -> None:
    """In the key, the event, the payload and the platform's own words."""
    (hostile,) = relay.ask("GET", "/v1/callbacks?platform=shop-b&limit=1")["items"]
    log_in(page, relay, "viewer", f"/ui/callbacks/{hostile['id']}")
    shown(page, "callback")
    expect(page.locator("main")).to_contain_text(HOSTILE)
    expect(page.locator("main")).to_contain_text("unknown carrier <b>x</b>")
    expect(page.locator("[data-attempt]").first).to_be_visible()
    attempt = page.locator("[data-request]").first
    attempt.locator("summary").click()
    expect(attempt).to_contain_text("Idempotency-Key")
    expect(attempt.locator('[data-action="copy-attempt"]')).to_be_visible()
    expect(page.locator("[data-payload]")).to_contain_text("<img")
    page.goto(f"{relay.admin}/ui/dead-letters")
    shown(page, "dead-letters")
    expect(page.locator("main")).to_contain_text(HOSTILE)
    assert page.locator("main img, main script, main b:has-text('x')").count() == 0
    assert "relay" in page.title()


@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("zh-CN", "dark")])
def test_every_page_on_a_phone(page: Page, relay: Relay, language: str, theme: str) -> None:
    """Nothing scrolls sideways at 360 px; the choice of language and theme is remembered."""
    page.set_viewport_size({"width": 360, "height": 740})
    log_in(page, relay, "viewer")
    shown(page, "overview")
    if language == "zh-CN":
        page.click('[data-action="language"]')
        expect(page.locator("main h1")).to_have_text("总览")
    if theme == "dark":
        page.click('[data-action="theme"]')
    for name, path in PAGES.items():
        page.goto(f"{relay.admin}{path}")
        shown(page, name)
        expect(page.locator("html")).to_have_attribute("lang", language)
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (name, theme, wide)


def test_a_long_list_is_counted_and_shown_in_pages(page: Page, relay: Relay) -> None:
    """More than a page of one key: all of them are counted, the newest hundred shown, then the rest."""
    for _ in range(130):
        relay.post("shop-e", {}, **{"Relay-Key": "long"})
    log_in(page, relay, "viewer", "/ui/callbacks?key=long")
    shown(page, "callbacks")
    expect(page.locator("[data-count]")).to_have_attribute("data-value", "130")
    expect(page.locator("[data-count]")).not_to_have_attribute("data-more", "")
    expect(page.locator("tr[data-callback]")).to_have_count(100)
    page.click('[data-action="more"]')
    expect(page.locator("tr[data-callback]")).to_have_count(130)
    expect(page.locator('[data-action="more"]')).to_be_hidden()


def test_what_the_files_say_comes_first(page: Page, relay: Relay) -> None:
    """Of some hundred settings a few are somebody's; the others are shown where they are asked for."""
    log_in(page, relay, "viewer", "/ui/config")
    shown(page, "config")
    own = page.locator("main tr").filter(has_text=re.compile(r"platforms\.shop-a\.rate"))
    default = page.locator("main tr").filter(has_text=re.compile(r"platforms\.shop-a\.timeout"))
    expect(own).to_have_count(1)
    expect(default).to_have_count(0)
    page.check('[name="defaults"]')
    expect(own).to_have_count(1)
    expect(default).to_have_count(1)


def test_a_paused_group_is_shown_with_its_platform(page: Page, relay: Relay) -> None:
    """With the reason; it is gone from the page when it goes on, without anybody asking."""
    relay.config["platforms"]["shop-g"] = {**relay.config["platforms"]["shop-e"], "group": "seller"}
    relay.write()
    relay.text("/v1/config/reload", "POST")
    log_in(page, relay, "operator", "/ui/platforms/shop-g")
    shown(page, "platform")
    headers = {"Authorization": f"Bearer {USERS[-1]['token']}"}
    order = {"group": "G17", "reason": "moving house"}
    assert page.request.post(f"{relay.admin}/v1/platforms/shop-g/pause", headers=headers, data=order).ok
    card = page.locator("main .card").filter(has_text="One group is paused by an operator")
    expect(card).to_contain_text("G17")
    expect(card).to_contain_text("moving house")
    assert page.request.post(f"{relay.admin}/v1/platforms/shop-g/resume", headers=headers, data=order).ok
    expect(card).to_have_count(0)
    del relay.config["platforms"]["shop-g"]
    relay.write()
    relay.text("/v1/config/reload", "POST")
