"""One evening of one operator: find an order, read why it waits, retry a group, change a rate; the audit has it all."""

import re

from playwright.sync_api import Page, expect
from tests.console.browser_side import Relay, log_in, shown, until

MANY = 3000
DEAD = 214


def test_an_order_a_group_and_a_rate_and_all_of_it_in_the_audit(page: Page, relay: Relay) -> None:
    """By clicks alone, but for the line in the file."""
    relay.post_many("shop-c", [{"order_id": f"N-{number}"} for number in range(MANY)])
    relay.post_many("shop-f", [{"order_id": f"F-{number}"} for number in range(DEAD)])
    until(lambda: relay.ask("GET", "/v1/platforms/shop-f")["dead"] == DEAD, "a group of dead letters")

    log_in(page, relay, "operator", "/ui/callbacks")
    shown(page, "callbacks")
    page.fill('[data-search] [name="key"]', f"N-{MANY // 3}")
    page.keyboard.press("Enter")
    expect(page.locator("[data-count]")).to_have_attribute("data-value", "1")
    page.locator("tr[data-callback] a").first.click()
    shown(page, "callback")
    expect(page.locator("[data-waiting]")).to_contain_text("connection refused")

    page.goto(f"{relay.admin}/ui/dead-letters?platform=shop-f")
    shown(page, "dead-letters")
    group = page.locator("[data-group]")
    expect(group.locator('[data-field="count"]')).to_have_text(str(DEAD))
    group.locator('[data-action="retry"]').click()
    dialog = page.locator("dialog[data-confirm]")
    dialog.locator('[name="reason"]').fill("the carrier is known now")
    dialog.locator('[name="count"]').fill(str(DEAD))
    dialog.locator('[data-action="confirm"]').click()
    expect(page.locator("[data-result]")).to_have_text(re.compile(f"under way over {DEAD} callbacks"))
    attempted = f"/v1/callbacks?platform=shop-f&key=F-{DEAD - 1}"
    until(lambda: relay.ask("GET", attempted)["items"][0]["attempts"] == 2, "all are tried again")

    relay.config["platforms"]["shop-f"]["rate"] = "9/min"
    relay.write()
    page.goto(f"{relay.admin}/ui/config")
    shown(page, "config")
    page.click('[data-action="reload"]')
    expect(page.locator("dialog li")).to_contain_text("platforms.shop-f.rate")
    page.fill('dialog [name="reason"]', "they told us by mail")
    page.click('dialog [data-action="confirm"]')
    expect(page.locator("[data-result]")).to_contain_text("The file is in force")
    relay.post("shop-f", {"order_id": "F-late"})
    page.goto(f"{relay.admin}/ui/platforms/shop-f")
    shown(page, "platform")
    expect(page.locator(".strip i")).to_have_count(9)
    expect(page.locator('[data-field="state"]')).to_have_text("limited")
    expect(page.locator('[data-slots="replay"]')).to_be_visible()

    page.goto(f"{relay.admin}/ui/audit?who=operator")
    shown(page, "audit")
    told = page.locator("main [data-audit]")
    expect(told.filter(has_text="operation.retry").filter(has_text="the carrier is known now")).to_have_count(1)
    expect(told.filter(has_text="config.reload").filter(has_text="they told us by mail")).to_have_count(1)
