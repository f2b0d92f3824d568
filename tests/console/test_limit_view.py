"""The limit view of a platform: what its slots were used for, and what another setting would do, before it is set."""

from playwright.sync_api import Page, expect
from tests.console.browser_side import Relay, log_in, shown, until


def test_the_window_is_a_strip_of_slots_with_what_they_were_used_for(page: Page, relay: Relay) -> None:
    """As many cells as slots; the numbers are those of the API, and add up to the limit. What is in time is shown."""
    relay.post("shop-a", {"order_id": "A-strip"})
    until(lambda: relay.ask("GET", "/v1/platforms/shop-a")["quotas"][0]["uses"]["first"] > 0, "a request is sent")
    log_in(page, relay, "viewer", "/ui/platforms/shop-a")
    shown(page, "platform")
    expect(page.locator(".strip i")).to_have_count(100)

    def shows_what_the_api_says() -> bool:  # slots come back while both are looked at
        (quota,) = relay.ask("GET", "/v1/platforms/shop-a")["quotas"]
        assert quota["uses"]["first"] == quota["sent"]
        return (
            page.locator(".strip i.s1").count(),
            page.locator('[data-slots="first"]').get_attribute("data-value"),
            str(100 - quota["sent"]) in page.locator('[data-slots="free"]').inner_text(),
        ) == (quota["sent"], str(quota["sent"]), True)

    until(shows_what_the_api_says, "the slots of the API on the page")
    in_time = page.locator('[data-field="objective"]')
    expect(in_time).to_have_text("100 % in 1 h, 100 % in 24 h")


def test_a_change_is_tried_before_it_is_made(page: Page, relay: Relay) -> None:
    """What the operator types is worked out beside what is in force, headed as modelled; nothing is changed."""
    relay.post("shop-a", {"order_id": "A-tried"})
    before = relay.ask("GET", "/v1/config")["config"]["platforms"]["shop-a"]
    log_in(page, relay, "operator", "/ui/platforms/shop-a")
    shown(page, "platform")
    form = page.locator("[data-try]")
    expect(form.locator('[name="rate"]')).to_have_attribute("placeholder", "100/min")
    form.locator('[name="rate"]').fill("10/mn")
    page.keyboard.press("Enter")
    expect(page.locator("[data-result]")).to_contain_text("10/mn")
    form.locator('[name="rate"]').fill("10/min")
    form.locator('[name="max_items"]').fill("7")
    page.click('[data-action="try"]')
    tried = page.locator('[data-tried="shop-a"]')
    expect(tried).to_be_visible(timeout=60_000)
    expect(page.locator("section", has=tried)).to_contain_text("Modelled, not measured")
    expect(tried.locator("th")).to_have_text(
        ["Figure", "now: rate: 100/min, batch.max_items: 100", "tried: rate: 10/min, batch.max_items: 7"]
    )
    for figure in ("drained_s", "left", "p99_s", "requests_per_min", "slots_used"):
        expect(tried.locator(f'[data-figure="{figure}"]')).to_be_visible()
    expect(tried.locator("code")).to_have_text("rate: 10/min\nbatch: {max_items: 7}")
    assert relay.ask("GET", "/v1/config")["config"]["platforms"]["shop-a"] == before


def test_who_may_not_operate_may_not_try(page: Page, relay: Relay) -> None:
    """It takes seconds of a core; the button says who may."""
    log_in(page, relay, "viewer", "/ui/platforms/shop-a")
    shown(page, "platform")
    expect(page.locator('[data-action="try"]')).to_be_disabled()
