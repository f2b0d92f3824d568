"""What a person does: every change asks for a reason, more than one match for the count, and the audit has it."""

import re
from typing import Any

from playwright.sync_api import Page, expect
from tests.console.browser_side import Relay, log_in, shown, until


def test_a_group_of_dead_letters_is_retried_in_one_action(page: Page, relay: Relay) -> None:
    """With the count typed; a wrong count starts nothing. It acts on this platform's alone, and on so many."""
    asked: list[Any] = []
    page.on("request", lambda sent: asked.append(sent.post_data_json) if sent.url.endswith("/v1/operations") else None)
    for number in range(4):
        relay.post("shop-d", {"order_id": f"D-{number}"})
    until(lambda: relay.ask("GET", "/v1/platforms/shop-d")["dead"] == 4, "four dead letters")
    log_in(page, relay, "operator", "/ui/dead-letters?platform=shop-d")
    shown(page, "dead-letters")
    expect(page.locator("[data-count]")).to_have_attribute("data-value", "4")
    page.goto(f"{relay.admin}/ui/dead-letters")
    shown(page, "dead-letters")
    group = page.locator('[data-group^="shop-d "]')
    expect(group.locator('[data-field="count"]')).to_have_text("4")
    group.locator('[data-action="retry"]').click()
    dialog = page.locator("dialog[data-confirm]")
    dialog.locator('[name="reason"]').fill("carrier known now")
    dialog.locator('[name="count"]').fill("3")
    dialog.locator('[data-action="confirm"]').click()
    expect(dialog).to_be_visible()
    dialog.locator('[name="count"]').fill("4")
    dialog.locator('[data-action="confirm"]').click()
    expect(page.locator("[data-result]")).to_have_text(re.compile(r"Operation \d+ is under way over 4 callbacks"))
    number = re.findall(r"\d+", page.locator("[data-result]").inner_text())[0]
    until(lambda: relay.ask("GET", f"/v1/operations/{number}")["state"] == "done", "the operation is done")
    done = relay.ask("GET", f"/v1/operations/{number}")
    assert (done["done"], done["options"]["who"], done["options"]["reason"]) == (4, "operator", "carrier known now")
    of = {"platform": "shop-d", "reason": "rejected: code=7", "code": "7", "state": "dead"}
    assert [(each["filter"], each.get("expect_count")) for each in asked] == [(of, None), (of, 4)]
    until(lambda: relay.ask("GET", "/v1/platforms/shop-d")["dead"] == 4, "all of them refused again")


def test_what_a_role_may_not_do_is_disabled_and_says_why(page: Page, relay: Relay) -> None:
    """Before the click, to eyes and to screen readers."""
    log_in(page, relay, "viewer", "/ui/platforms/shop-a")
    shown(page, "platform")
    for action in ("pause", "resume", "flush", "limit"):
        button = page.locator(f'[data-action="{action}"]')
        expect(button).to_be_disabled()
        expect(button).to_have_attribute("title", "Needs one of the roles: operator, admin")
        expect(page.locator(f"#{button.get_attribute('aria-describedby')}")).to_have_text(
            button.get_attribute("title") or ""
        )


def test_a_platform_is_paused_and_resumed_by_keyboard_alone(page: Page, relay: Relay) -> None:
    """The reason stands under the state, for everybody."""
    log_in(page, relay, "operator", "/ui/platforms/shop-e")
    shown(page, "platform")

    def press(action: str, reason: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.dataset.action") == action:
                break
        page.keyboard.press("Enter")
        expect(page.locator('dialog [name="reason"]')).to_be_focused()
        page.keyboard.type(reason)
        page.keyboard.press("Enter")
        expect(page.locator("dialog")).to_have_count(0)

    press("pause", "maintenance tonight")
    expect(page.locator("[data-result]")).to_have_text("shop-e is paused.")
    expect(page.locator('[data-field="state"]')).to_have_text("paused")
    expect(page.locator('[data-field="reason"]')).to_contain_text("maintenance tonight")
    press("resume", "it is over")
    expect(page.locator('[data-field="state"]')).to_have_text("ok")


def test_a_rate_changed_in_the_file_is_reloaded_and_holds(page: Page, relay: Relay) -> None:
    """The dialog lists what would change; a file with a mistake is refused, and the page names it."""
    log_in(page, relay, "operator", "/ui/config")
    shown(page, "config")
    relay.config["platforms"]["shop-e"]["rate"] = "7/mn"
    relay.write()
    page.click('[data-action="reload"]')
    expect(page.locator("main .note.bad li")).to_contain_text("shop-e")
    relay.config["platforms"]["shop-e"]["rate"] = "7/min"
    relay.write()
    page.click('[data-action="reload"]')
    expect(page.locator("dialog li")).to_contain_text("platforms.shop-e.rate")
    page.fill('dialog [name="reason"]', "announced by mail")
    page.click('dialog [data-action="confirm"]')
    expect(page.locator("[data-result]")).to_contain_text("The file is in force")
    assert [each["limit"] for each in relay.ask("GET", "/v1/platforms/shop-e")["quotas"]] == [7]
    page.goto(f"{relay.admin}/ui/platforms/shop-e")
    expect(page.locator(".strip i")).to_have_count(7)
    page.goto(f"{relay.admin}/ui/audit?action=config.reload")
    shown(page, "audit")
    expect(page.locator("main [data-audit]").first).to_contain_text("announced by mail")


def test_a_payload_is_revealed_with_the_own_token_and_a_reason(page: Page, relay: Relay) -> None:
    """Masked at first; another's token shows nothing and says why; the own one shows it as it came, on record."""
    found = next(each for each in relay.ask("GET", "/v1/callbacks?platform=shop-b")["items"] if not each["event"])
    log_in(page, relay, "admin", f"/ui/callbacks/{found['id']}")
    shown(page, "callback")
    payload = page.locator("[data-payload]")
    expect(payload).to_contain_text("138****5678")
    for token, seen in (("viewer-token-for-the-tests", "138****5678"), ("admin-token-for-the-tests", "13812345678")):
        page.click('[data-action="reveal"]')
        page.fill('dialog input[name="reason"]', "ticket 4711")
        page.fill('dialog input[name="token"]', token)
        page.click('dialog [data-action="confirm"]')
        expect(page.locator("[data-result]")).not_to_be_empty()
        expect(payload).to_contain_text(seen)
    records = relay.ask("GET", "/v1/audit?who=admin&limit=2")["items"]
    assert [(each["action"], each["reason"]) for each in records] == [
        ("payload.reveal", "ticket 4711"),
        ("payload.reveal_refused", "forbidden"),
    ]


def test_who_sees_totals_alone_has_no_way_to_callbacks(page: Page, relay: Relay) -> None:
    """The overview with its figures, the platforms, and no link to a page that would be refused."""
    log_in(page, relay, "stats", "/ui/")
    shown(page, "overview")
    expect(page.locator("nav a")).to_have_count(1)
    expect(
        page.locator("[data-row='shop-b'], [data-platform='shop-b'], a[href='/ui/platforms/shop-b']").first
    ).to_be_visible()
    page.goto(f"{relay.admin}/ui/callbacks")
    expect(page.locator("main")).to_contain_text("stats")
