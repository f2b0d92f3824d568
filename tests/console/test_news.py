"""What a page says by itself while it stands open: what is wrong and where, what has changed, that nobody answers."""

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.console.browser_side import Relay, log_in, running, shown

LONG = "a-platform-with-a-name-as-long-as-teams-give-them-and-number-"
WAITING = 1200


def test_the_overview_says_first_what_is_wrong_and_where(page: Page, relay: Relay) -> None:
    """The platforms by name, what waits for a person, and each alert with the place where it is acted on."""
    log_in(page, relay, "viewer")
    shown(page, "overview")
    sentence = page.locator("main h1 + p")
    expect(sentence).to_contain_text("broken")
    expect(sentence.locator('a[href="/ui/platforms/shop-c"]')).to_be_visible()
    expect(sentence.locator('a[href="/ui/dead-letters"]')).to_contain_text("for a person")
    newest = page.locator("main [data-alert]").first
    expect(newest.locator("code")).to_contain_text("relay ")
    expect(newest.locator("a")).to_have_attribute("href", re.compile("^/ui/"))
    page.goto(f"{relay.admin}/ui/alerts")
    shown(page, "alerts")
    alert = page.locator('main [data-alert="dead-letters"]').filter(has_text="shop-b").first
    expect(alert.locator("code")).to_have_text("relay dead groups --platform shop-b")
    alert.locator("a").click()
    shown(page, "dead-letters")
    assert page.url.endswith("/ui/dead-letters?platform=shop-b")
    page.go_back()
    shown(page, "alerts")
    page.click('[data-action="language"]')
    expect(page.locator('main [data-alert="dead-letters"]').first).to_contain_text("死信")
    page.goto(f"{relay.admin}/ui/platforms/shop-b")
    shown(page, "platform")
    expect(page.locator("main")).to_contain_text("没有被拒绝过")


def test_a_callback_is_followed_until_it_ends(page: Page, relay: Relay) -> None:
    """Its state, its attempt and the end of its wait show without a reload; what stands open stays open."""
    number = relay.post("shop-a", {"order_id": "A-followed"}, **{"Relay-Not-Before": "2s"})
    log_in(page, relay, "viewer", f"/ui/callbacks/{number}")
    shown(page, "callback")
    page.locator("[data-payload]").evaluate("each => { each.dataset.mark = 'mine'; }")
    expect(page.locator("h1 .state")).to_have_text("delivered")
    expect(page.locator("[data-attempt]")).to_have_count(1)
    expect(page.locator("[data-waiting]")).to_have_count(0)
    expect(page.locator('[data-payload][data-mark="mine"]')).to_be_visible()


def test_a_session_that_ends_is_said_and_gone_on_with(page: Page, relay: Relay) -> None:
    """Also under an open question; after the login the same page is there."""
    log_in(page, relay, "operator", "/ui/platforms/shop-a")
    shown(page, "platform")
    page.click('[data-action="pause"]')
    page.fill('dialog [name="reason"]', "never")
    page.context.clear_cookies()
    # Where the page asks first, it learns of the end before the answer is given: the dialog is gone then.
    page.evaluate("""document.querySelector('dialog [data-action="confirm"]')?.click()""")
    shown(page, "login")
    expect(page.locator("main .note")).to_have_text("Your session has ended. Log in again to go on.")
    expect(page.locator("[data-result]")).to_be_empty()
    page.fill('input[name="token"]', "operator-token-for-the-tests")
    page.keyboard.press("Enter")
    shown(page, "platform")
    assert page.url.endswith("/ui/platforms/shop-a")
    assert relay.ask("GET", "/v1/platforms/shop-a")["state"] != "paused"


def test_a_relay_that_is_gone_and_sixty_platforms(page: Page, tmp_path: Path) -> None:
    """Sixty long names are searched, and fit a phone. Every page says that nobody answers, and goes on afterwards."""
    with running(tmp_path, users=False) as relay:
        taker = relay.config["platforms"]["shop-e"]
        relay.config["platforms"] |= {f"{LONG}{number}": taker for number in range(60)}
        relay.write()
        relay.text("/v1/config/reload", "POST")
        relay.post_many("shop-c", [{"order_id": str(number)} for number in range(WAITING)])
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(f"{relay.admin}/ui/")
        shown(page, "overview")
        expect(page.locator("[data-platform]")).to_have_count(69)
        page.fill('[name="find"]', "number-59")
        expect(page.locator("[data-platform]:visible")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0

        page.goto(f"{relay.admin}/ui/callbacks?platform=shop-c")
        shown(page, "callbacks")
        page.click('[data-action="drop"]')
        count = page.locator('dialog [name="count"]')
        for typed, fits in ((f"{WAITING:,}", True), (f"{WAITING}", True), (f"{WAITING + 1:,}", False)):
            count.fill(typed)
            assert count.evaluate("each => each.checkValidity()") is fits
        page.click('dialog [data-action="cancel"]')

        relay.stop()
        expect(page.locator("[data-stale]")).to_contain_text("The relay does not answer")
        page.click('nav a[href="/ui/dead-letters"]')
        expect(page.locator("main .note.bad")).to_contain_text("does not answer")
        relay.start()
        expect(page.locator("[data-stale]")).to_be_hidden()
        expect(page.locator("main [data-search]")).to_be_visible()


def test_a_page_that_is_opened_while_the_store_is_away_says_so(page: Page, relay: Relay) -> None:
    """What the store told last stands there, with since when it is away; a page without any figures opens too."""
    log_in(page, relay, "viewer")
    shown(page, "overview")
    told = {name: relay.ask("GET", f"/v1/{name}") for name in ("platforms", "ledger", "alerts")}
    away = {"since": "2026-11-30T10:00:00.000Z", "as_of": "2026-11-30T09:59:58.000Z"}

    def state(**more: dict[str, str]) -> str:
        return f"event: state\ndata: {json.dumps({**told, 'ledger': {**told['ledger'], **more}})}\n\n"

    answers = [state(away=away)]
    kind = "text/event-stream"
    page.route("**/v1/events", lambda route: route.fulfill(status=200, content_type=kind, body=answers[-1]))
    page.reload()
    shown(page, "overview")
    expect(page.locator("[data-stale]")).to_contain_text("The store is away, nothing is sent")
    expect(page.locator("[data-stale]")).to_contain_text("This is how it stood")
    expect(page.locator('[data-platform="shop-a"]')).to_be_visible()
    answers.append(f"event: state\ndata: {json.dumps({'alerts': told['alerts']})}\n\n")  # nothing is known of them
    page.reload()
    shown(page, "overview")
    answers.append(state())
    page.reload()
    shown(page, "overview")
    expect(page.locator("[data-stale]")).to_be_hidden()
